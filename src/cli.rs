/*! The commands. The only room that prints. One file a subcommand. */
