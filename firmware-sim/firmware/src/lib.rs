//! The device program.
#![no_std]
