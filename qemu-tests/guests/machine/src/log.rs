//! Logging by `defmt`, where it is there.

/// Logs at level `info`.
#[cfg(feature = "defmt")]
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => {{
        use $crate::defmt;
        defmt::info!($($text)*)
    }};
}

/// Logs at level `debug`.
#[cfg(feature = "defmt")]
#[macro_export]
macro_rules! debug {
    ($($text:tt)*) => {{
        use $crate::defmt;
        defmt::debug!($($text)*)
    }};
}

/// Logs at level `error`.
#[cfg(feature = "defmt")]
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => {{
        use $crate::defmt;
        defmt::error!($($text)*)
    }};
}

/// Logs at level `info`.
#[cfg(not(feature = "defmt"))]
#[macro_export]
macro_rules! info {
    ($text:literal $(, $value:expr)* $(,)?) => {{ $(let _ = &$value;)* }};
}

/// Logs at level `debug`.
#[cfg(not(feature = "defmt"))]
#[macro_export]
macro_rules! debug {
    ($text:literal $(, $value:expr)* $(,)?) => {{ $(let _ = &$value;)* }};
}

/// Logs at level `error`.
#[cfg(not(feature = "defmt"))]
#[macro_export]
macro_rules! error {
    ($text:literal $(, $value:expr)* $(,)?) => {{ $(let _ = &$value;)* }};
}
