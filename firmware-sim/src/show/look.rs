//! How a module looks around and between its pixels.

use crate::picture::Picture;

/// A module's looks. All sizes are in pixels of the enlarged picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Side of one panel pixel, gap included.
    pub pitch: usize,
    /// Dark line between panel pixels.
    pub gap: usize,
    /// Width of the black rim of the glass.
    pub rim: usize,
    /// Width of the frame round the glass.
    pub bezel: usize,
    /// Colour of the frame.
    pub bezel_color: [u8; 3],
    /// Colour of the glass where no light comes from, or of ink.
    pub glass: [u8; 3],
    /// Colour of the rim, and of what lies between pixels.
    pub rim_color: [u8; 3],
    /// Colour of a white pixel.
    pub light: [u8; 3],
}

impl Look {
    /// A 1.3" TFT: fine pixels behind a black frame.
    pub const TFT: Self = Self {
        pitch: 2,
        gap: 0,
        rim: 6,
        bezel: 14,
        bezel_color: [38, 40, 46],
        glass: [4, 4, 5],
        rim_color: [4, 4, 5],
        light: [255, 255, 255],
    };

    /// A 0.96" OLED: light blue dots with gaps between them.
    pub const OLED: Self = Self {
        pitch: 5,
        gap: 1,
        rim: 10,
        bezel: 12,
        bezel_color: [22, 30, 46],
        glass: [5, 6, 9],
        rim_color: [5, 6, 9],
        light: [168, 222, 255],
    };

    /// E-paper: black ink on paper that is not quite white.
    pub const PAPER: Self = Self {
        pitch: 2,
        gap: 0,
        rim: 8,
        bezel: 12,
        bezel_color: [226, 226, 224],
        glass: [44, 44, 46],
        rim_color: [214, 212, 204],
        light: [222, 220, 212],
    };

    /// A matrix of LEDs, 3 mm apart.
    pub const MATRIX: Self = Self {
        pitch: 7,
        gap: 2,
        rim: 4,
        bezel: 6,
        bezel_color: [30, 30, 32],
        glass: [14, 14, 15],
        rim_color: [14, 14, 15],
        light: [255, 255, 255],
    };

    /// The module with this picture on it.
    pub fn dress(&self, picture: &Picture) -> Picture {
        let margin = self.rim + self.bezel;
        let width = picture.width() * self.pitch + 2 * margin;
        let height = picture.height() * self.pitch + 2 * margin;
        let lit_side = self.pitch - self.gap;
        Picture::from_fn(width, height, |x, y| {
            let frame = x.min(y).min(width - 1 - x).min(height - 1 - y);
            if frame < self.bezel {
                return self.bezel_color;
            }
            if frame < margin {
                return self.rim_color;
            }
            let (x, y) = (x - margin, y - margin);
            if x % self.pitch >= lit_side || y % self.pitch >= lit_side {
                return self.rim_color;
            }
            let color = picture.at(x / self.pitch, y / self.pitch);
            std::array::from_fn(|channel| {
                let light = u16::from(color[channel]) * u16::from(self.light[channel]) / 255;
                self.glass[channel].max(light as u8)
            })
        })
    }

    /// The picture on a dressed module, as far as the glass lets it through; for tests.
    pub fn undress(&self, dressed: &Picture) -> Picture {
        let margin = self.rim + self.bezel;
        let side = |length: usize| length.saturating_sub(2 * margin) / self.pitch;
        Picture::from_fn(side(dressed.width()), side(dressed.height()), |x, y| {
            dressed.at(margin + x * self.pitch, margin + y * self.pitch)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_a_block_inside_the_bezel() {
        let picture = Picture::from_fn(3, 2, |x, y| [x as u8 * 100, y as u8 * 200, 255]);
        let dressed = Look::TFT.dress(&picture);
        assert_eq!((dressed.width(), dressed.height()), (3 * 2 + 40, 2 * 2 + 40));
        assert_eq!(dressed.at(0, 0), Look::TFT.bezel_color);
        assert_eq!(dressed.at(20 + 5, 20 + 3), [200, 200, 255]);
        assert_eq!(Look::TFT.undress(&dressed).at(2, 1), [200, 200, 255]);
        let dots = Look::OLED.dress(&Picture::filled(1, 1, [255; 3]));
        let lit = dots.rgb().chunks(3).filter(|color| *color == Look::OLED.light).count();
        assert_eq!(lit, 16, "four by four of a pitch of five");
    }
}
