//! Plans from facts given as data.
