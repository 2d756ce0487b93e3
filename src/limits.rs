//! Every bound in the program, named, with its reason.
