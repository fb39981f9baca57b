//! The device's program on a virtual panel.
pub mod panel;
pub mod picture;
