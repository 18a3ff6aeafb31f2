//! When a run is over, and what it says then.
