/*! The server on a target: holds parts, runs them, runs jobs, keeps their records. */
