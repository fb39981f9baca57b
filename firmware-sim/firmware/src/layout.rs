//! Where things go on a panel of any size.
//!
//! A picture that fits is enlarged by the largest whole factor ([`Scaling::Pixels`]) or until it
//! touches an edge ([`Scaling::Fill`], [`Scaling::Smooth`]), and centred. One that is larger than its place shrinks
//! to fit. A caption takes a line below or a column at the right, whichever leaves the picture larger.

use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::primitives::Rectangle;

use crate::caption;
use crate::generator::PictureShape;
use crate::sample::Filter;

/// How a picture grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// By a whole factor, every pixel a square block.
    #[default]
    Pixels,
    /// As large as it fits, every pixel a block as sharp as that allows: where an edge falls between two pixels of the panel,
    /// they share it.
    Fill,
    /// As large as it fits, bilinear.
    Smooth,
}

/// Most columns or rows of a gallery: more would be too small to look at.
const MOST_TILES_PER_SIDE: u32 = 4;

/// Pixels between tiles of a gallery, at least.
const TILE_GAP: u32 = 2;

/// A picture's place in `area`, and how its pixels are made.
pub fn fit(area: Rectangle, shape: PictureShape, scaling: Scaling) -> (Rectangle, Filter) {
    let (width, height) = (u32::from(shape.width()), u32::from(shape.height()));
    let room = area.size;
    let factor = (room.width / width).min(room.height / height);
    let (size, filter) = match scaling {
        Scaling::Pixels if factor >= 1 => (Size::new(width * factor, height * factor), Filter::Nearest),
        _ => {
            let size = touching(room, width, height);
            let whole = size.width.is_multiple_of(width) && size.height.is_multiple_of(height);
            let filter = match scaling {
                Scaling::Smooth if factor >= 1 => Filter::Bilinear,
                Scaling::Fill if whole => Filter::Nearest,
                _ => Filter::Area,
            };
            (size, filter)
        }
    };
    let margin = (room.saturating_sub(size)) / 2;
    (Rectangle::new(area.top_left + margin, size), filter)
}

/// The largest size of a width : height picture in `room`, at least one pixel where there is room.
fn touching(room: Size, width: u32, height: u32) -> Size {
    let scaled = |side: u32, by: u32, of: u32| (u64::from(side) * u64::from(by) / u64::from(of)) as u32;
    if u64::from(room.width) * u64::from(height) <= u64::from(room.height) * u64::from(width) {
        Size::new(room.width, scaled(height, room.width, width).max(1).min(room.height))
    } else {
        Size::new(scaled(width, room.height, height).max(1).min(room.width), room.height)
    }
}

/// A panel's area for pictures and, where wanted, for the caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Areas {
    /// For the picture or the gallery.
    pub picture: Rectangle,
    /// For the caption; `None` when it was not wanted or the panel is too small for one.
    pub caption: Option<Rectangle>,
}

/// Divides a panel. `of_picture` is how large the picture would come out in a given area; the
/// division that leaves it larger wins, the line below on a tie unless the panel is wide.
pub fn divide(panel: Rectangle, with_caption: bool, of_picture: impl Fn(Rectangle) -> u32) -> Areas {
    let none = Areas { picture: panel, caption: None };
    let Size { width, height } = panel.size;
    if !with_caption || width < caption::COLUMN_WIDTH || height < 2 * caption::LINE_HEIGHT {
        return none;
    }
    let split = |picture: Size, offset: Point, caption: Size| Areas {
        picture: Rectangle::new(panel.top_left, picture),
        caption: Some(Rectangle::new(panel.top_left + offset, caption)),
    };
    let above = height - caption::LINE_HEIGHT;
    let below =
        split(Size::new(width, above), Point::new(0, above as i32), Size::new(width, caption::LINE_HEIGHT));
    let left = width - caption::COLUMN_WIDTH;
    if left == 0 {
        return below;
    }
    let beside =
        split(Size::new(left, height), Point::new(left as i32, 0), Size::new(caption::COLUMN_WIDTH, height));
    let (size_below, size_beside) = (of_picture(below.picture), of_picture(beside.picture));
    let wide = 2 * width >= 3 * height;
    if size_beside > size_below || (size_beside == size_below && wide) { beside } else { below }
}

/// The largest square in a circle in the middle of a panel: what a round glass shows whole.
pub fn inside_circle(panel: Rectangle) -> Rectangle {
    let diameter = panel.size.width.min(panel.size.height);
    let side = (diameter * diameter / 2).isqrt();
    let size = Size::new(side, side);
    Rectangle::new(panel.top_left + panel.size.saturating_sub(size) / 2, size)
}

/// The tiles of a gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Tiles in a row.
    pub columns: u32,
    /// Rows of tiles.
    pub rows: u32,
}

impl Grid {
    /// As many tiles of the picture's own size as fit into an area, from 1 to 4 each way; pictures of which less than two fit shrink, as
    /// little as two or more of them allow.
    pub fn for_area(area: Size, shape: PictureShape) -> Self {
        let along = |room: u32, side: u16| {
            ((room + TILE_GAP) / (u32::from(side) + TILE_GAP)).min(MOST_TILES_PER_SIDE)
        };
        let (columns, rows) = (along(area.width, shape.width()), along(area.height, shape.height()));
        if columns * rows > 1 {
            return Self { columns, rows };
        }
        let sides = 1..=MOST_TILES_PER_SIDE;
        let grids = sides.clone().flat_map(|rows| sides.clone().map(move |columns| Self { columns, rows }));
        let width_in = |grid: Self| {
            let room = Size::new(area.width / grid.columns, area.height / grid.rows);
            let room = room.saturating_sub(Size::new(TILE_GAP, TILE_GAP));
            touching(room, shape.width().into(), shape.height().into()).width
        };
        let several = grids.filter(|grid| grid.tiles() > 1);
        several.max_by_key(|grid| (width_in(*grid), grid.tiles())).unwrap_or(Self { columns: 2, rows: 2 })
    }

    /// Number of tiles.
    pub fn tiles(self) -> u32 {
        self.columns * self.rows
    }

    /// The place of tile `tile` in `area`. The gap is inside it, at the right and below.
    pub fn place(self, area: Rectangle, tile: u32) -> Rectangle {
        let (column, row) = (tile % self.columns, tile / self.columns % self.rows);
        let size = Size::new(area.size.width / self.columns, area.size.height / self.rows);
        let offset = Point::new((column * size.width) as i32, (row * size.height) as i32);
        Rectangle::new(area.top_left + offset, size)
    }

    /// The part of [`Grid::place`] for the picture: all of it, or all but the gap where the
    /// picture would otherwise touch its neighbours.
    pub fn fit(
        self,
        area: Rectangle,
        tile: u32,
        shape: PictureShape,
        scaling: Scaling,
    ) -> (Rectangle, Filter) {
        let place = self.place(area, tile);
        let room = place.size.saturating_sub(Size::new(TILE_GAP, TILE_GAP));
        fit(Rectangle::new(place.top_left + Size::new(TILE_GAP, TILE_GAP) / 2, room), shape, scaling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(width: u32, height: u32) -> Rectangle {
        Rectangle::new(Point::zero(), Size::new(width, height))
    }

    fn shape(width: u16, height: u16) -> PictureShape {
        PictureShape::new(1, width, height).unwrap()
    }

    fn rectangle(x: i32, y: i32, width: u32, height: u32) -> Rectangle {
        Rectangle::new(Point::new(x, y), Size::new(width, height))
    }

    #[test]
    fn one_picture_on_a_panel() {
        use Filter::{Area, Bilinear, Nearest};
        use Scaling::{Fill, Pixels, Smooth};
        let table = [
            ((240, 240), (28, 28), Pixels, rectangle(8, 8, 224, 224), Nearest),
            ((240, 240), (64, 64), Pixels, rectangle(24, 24, 192, 192), Nearest),
            ((240, 240), (28, 28), Fill, rectangle(0, 0, 240, 240), Area),
            ((240, 240), (60, 60), Fill, rectangle(0, 0, 240, 240), Nearest),
            ((240, 240), (28, 28), Smooth, rectangle(0, 0, 240, 240), Bilinear),
            ((128, 64), (28, 28), Pixels, rectangle(36, 4, 56, 56), Nearest),
            ((128, 64), (64, 64), Smooth, rectangle(32, 0, 64, 64), Bilinear),
            ((128, 64), (128, 128), Pixels, rectangle(32, 0, 64, 64), Area),
            ((240, 240), (500, 100), Pixels, rectangle(0, 96, 240, 48), Area),
            ((1, 1), (60_000, 1), Pixels, rectangle(0, 0, 1, 1), Area),
        ];
        for ((width, height), (picture_width, picture_height), scaling, place, filter) in table {
            let got = fit(panel(width, height), shape(picture_width, picture_height), scaling);
            assert_eq!(
                got,
                (place, filter),
                "{picture_width}×{picture_height} on {width}×{height} {scaling:?}"
            );
        }
    }

    #[test]
    fn a_caption_goes_where_it_costs_least() {
        let size_of = |shape| move |area| fit(area, shape, Scaling::Pixels).0.size.width;
        let areas = divide(panel(240, 240), true, size_of(shape(28, 28)));
        assert_eq!(areas.picture, rectangle(0, 0, 240, 230), "a line below costs the digit nothing");
        assert_eq!(areas.caption, Some(rectangle(0, 230, 240, 10)));
        let areas = divide(panel(128, 64), true, size_of(shape(64, 64)));
        assert_eq!(areas.picture, rectangle(0, 0, 68, 64), "a column keeps 64×64 whole");
        assert_eq!(areas.caption, Some(rectangle(68, 0, 60, 64)));
        assert_eq!(divide(panel(128, 64), false, |_| 0).caption, None);
        assert_eq!(divide(panel(32, 16), true, |_| 0).caption, None, "no room for letters");
    }

    #[test]
    fn the_square_in_a_circle_touches_it_from_inside() {
        let square = inside_circle(panel(240, 240));
        assert_eq!(square, rectangle(35, 35, 169, 169));
        // whether the corner's pixel lies in the circle, and the one beyond it
        let inside = |at: i32| 2 * (2 * at + 1 - 240).pow(2) <= 240 * 240;
        let corner = square.top_left.x;
        assert!(inside(corner) && !inside(corner - 1));
    }

    #[test]
    fn galleries() {
        let table = [
            ((240, 240), (28, 28), (4, 4)),
            ((128, 64), (28, 28), (4, 2)),
            ((240, 240), (64, 64), (3, 3)),
            ((240, 240), (200, 200), (2, 2)),
            ((128, 64), (64, 64), (2, 1)),
            ((128, 32), (64, 64), (4, 1)),
            ((128, 160), (128, 128), (1, 2)),
        ];
        for ((width, height), (picture_width, picture_height), (columns, rows)) in table {
            let grid = Grid::for_area(Size::new(width, height), shape(picture_width, picture_height));
            assert_eq!(grid, Grid { columns, rows }, "{picture_width}×{picture_height} on {width}×{height}");
        }
        let grid = Grid { columns: 4, rows: 4 };
        let (place, filter) = grid.fit(panel(240, 240), 5, shape(28, 28), Scaling::Pixels);
        assert_eq!((place, filter), (rectangle(62, 62, 56, 56), Filter::Nearest));
    }

    #[test]
    fn nothing_leaves_the_panel() {
        for (width, height) in [(1, 1), (3, 200), (96, 16), (128, 64), (240, 240), (320, 480)] {
            for (picture_width, picture_height) in [(1, 1), (28, 28), (64, 33), (9000, 2), (640, 480)] {
                let (panel, shape) = (panel(width, height), shape(picture_width, picture_height));
                for scaling in [Scaling::Pixels, Scaling::Fill, Scaling::Smooth] {
                    let (place, _) = fit(panel, shape, scaling);
                    assert_eq!(place.intersection(&panel), place);
                    assert!(place.size.width > 0 && place.size.height > 0);
                    let grid = Grid::for_area(panel.size, shape);
                    for tile in 0..grid.tiles() {
                        let (place, _) = grid.fit(panel, tile, shape, scaling);
                        assert_eq!(place.intersection(&panel).size, place.size, "{panel:?} {shape:?}");
                    }
                }
            }
        }
    }
}
