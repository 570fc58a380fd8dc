/*! The session: the RON file that holds settings and, once there are some, results. */
