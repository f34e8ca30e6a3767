//! exFAT (to come).
