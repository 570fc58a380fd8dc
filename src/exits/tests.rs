/*! The way from source to head, and what is said where it fails. */
