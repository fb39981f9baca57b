//! The shape of one picture's values.

use std::fmt;

use edgegen_runtime::model::ImageShape;

/// Shape of a value, without the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// (features)
    Vector(usize),
    /// (channels, height, width)
    Image(usize, usize, usize),
}

impl Shape {
    /// That of pictures.
    pub fn of_image(image: ImageShape) -> Self {
        Self::Image(image.channels, image.height, image.width)
    }

    /// Number of values.
    pub fn values(self) -> usize {
        match self {
            Self::Vector(features) => features,
            Self::Image(channels, height, width) => channels * height * width,
        }
    }

    /// (channels, height, width); a vector's features are channels of one pixel.
    pub fn image(self) -> (usize, usize, usize) {
        match self {
            Self::Vector(features) => (features, 1, 1),
            Self::Image(channels, height, width) => (channels, height, width),
        }
    }

    /// Channels, or features.
    pub fn channels(self) -> usize {
        self.image().0
    }

    /// Pixels of one channel; 1 for a vector.
    pub fn pixels(self) -> usize {
        let (_, height, width) = self.image();
        height * width
    }

    /// The same pixels with `channels` channels.
    pub fn with_channels(self, channels: usize) -> Self {
        match self {
            Self::Vector(_) => Self::Vector(channels),
            Self::Image(_, height, width) => Self::Image(channels, height, width),
        }
    }

    /// Axes after the batch axis.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Vector(features) => vec![features],
            Self::Image(channels, height, width) => vec![channels, height, width],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(features) => write!(f, "{features}"),
            Self::Image(channels, height, width) => write!(f, "{channels}x{height}x{width}"),
        }
    }
}
