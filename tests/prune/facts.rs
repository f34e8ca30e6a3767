//! Listings that lie and clocks that jump.
