/*!
The embedded data set: seeded 32×32 colour images in ten classes, five shapes, each striped or
checked. Colours are drawn freely, so that colour alone says nothing. The texture is visible to the
first layers, the shape only to those that see far. On plain images the grain of the texture gives
the shape away; the harder the image, the less it does, and clutter carries shapes and textures of
its own. So a network needs its depth, and an early exit is right on the plain images only.
*/

use super::DataError;
use super::pixels::fit_planes;
use super::source::{Frame, Images, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Training images: as many as a small residual network needs, as few as train in minutes.
pub const TRAIN: usize = 10_000;
/// Test images: enough for ±0.4 points of accuracy.
pub const TEST: usize = 5_000;
/// Share of the images that are plainly easy; a distributed run should have something to keep.
pub const EASY_SHARE: f32 = 0.5;
/// Difficulty below which an image counts as easy: clean background, centred, high contrast.
pub const EASY_BELOW: f32 = 0.25;
/// Standard deviation of the pixel noise of the hardest image, of 255.
pub const NOISE: f32 = 20.0;
/// Small shapes in the background of the hardest image.
pub const CLUTTER: f32 = 6.0;
/// Side of the square that hides part of the hardest image, of the shape's radius.
pub const OCCLUSION: f32 = 0.8;
/// How far the hardest image is off centre, in pixels.
pub const SHIFT: f32 = 5.0;
/// Pixels a period of the texture of each shape. Coarse enough to survive the grid of pixels, fine
/// enough for two periods in the smallest shape.
pub const GRAIN: [f32; 5] = [3.2, 4.2, 5.5, 7.2, 9.4];
/// Natural logarithm of how far the grain of the easiest and of the hardest image is off; neighbours
/// in [`GRAIN`] are 0.27 apart.
pub const GRAIN_SPREAD: (f32, f32) = (0.08, 0.8);
/// Radius of the shape in the easiest and in the hardest image, in pixels.
pub const RADIUS: (f32, f32) = (12.0, 8.0);

const SIDE: usize = 32;
const STORED: [usize; 3] = [3, SIDE, SIDE];
const SHAPES: [&str; 5] = ["disc", "square", "triangle", "cross", "ring"];

/// Whether an image of this difficulty counts as plainly easy.
pub fn is_easy(difficulty: f32) -> bool {
    difficulty < EASY_BELOW
}

/// The synthetic set of a seed; images are drawn when they are asked for.
#[derive(Debug)]
pub(super) struct Synthetic {
    seed: u64,
    train: Vec<u16>,
    test: Vec<u16>,
}

impl Synthetic {
    pub fn new(seed: u64) -> Self {
        let labels = |count: usize| (0..count).map(|index| (index % 10) as u16).collect();
        Synthetic {
            seed,
            train: labels(TRAIN),
            test: labels(TEST),
        }
    }
}

/// A shape filled with a texture, somewhere in the image.
struct Figure {
    shape: usize,
    checked: bool,
    centre: [f32; 2],
    radius: f32,
    turn: [f32; 2],
    grain: [f32; 2],
    phase: [f32; 2],
    wave: f32,
    colours: [[f32; 3]; 2],
}

impl Figure {
    fn draw(
        rng: &mut ChaCha8Rng,
        class: usize,
        centre: [f32; 2],
        radius: f32,
        turn: f32,
        period: f32,
        colours: [[f32; 3]; 2],
    ) -> Self {
        let grain: f32 = rng.random_range(0.0..TAU);
        Figure {
            shape: class % 5,
            checked: class >= 5,
            centre,
            radius,
            turn: [turn.cos(), turn.sin()],
            grain: [grain.cos(), grain.sin()],
            phase: [rng.random_range(0.0..TAU), rng.random_range(0.0..TAU)],
            wave: TAU / period,
            colours,
        }
    }

    /// Colour at a point, if the figure covers it.
    fn at(&self, x: f32, y: f32) -> Option<[f32; 3]> {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let [cos, sin] = self.turn;
        let u = (dx * cos + dy * sin) / self.radius;
        let v = (dy * cos - dx * sin) / self.radius;
        let inside = match self.shape {
            0 => u * u + v * v < 1.0,
            1 => u.abs().max(v.abs()) < 0.88,
            // Three half planes at 120°.
            2 => v < 0.62 && -0.5 * v + 0.866 * u < 0.62 && -0.5 * v - 0.866 * u < 0.62,
            3 => {
                let (near, far) = (u.abs().min(v.abs()), u.abs().max(v.abs()));
                near < 0.36 && far < 1.1
            }
            _ => (0.27..1.2).contains(&(u * u + v * v)),
        };
        inside.then(|| {
            let [a, b] = self.grain;
            let first = ((dx * a + dy * b) * self.wave + self.phase[0]).sin() > 0.0;
            let second = ((dy * a - dx * b) * self.wave + self.phase[1]).sin() > 0.0;
            let light = first != (self.checked && second);
            self.colours[usize::from(light)]
        })
    }
}

/// Background and two texture colours, the farther apart the easier the image.
fn palette(rng: &mut ChaCha8Rng, difficulty: f32) -> [[f32; 3]; 3] {
    let distance =
        |a: [f32; 3], b: [f32; 3]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
    let mut best = ([[0.0; 3]; 3], -1.0);
    // Best of many draws has contrast, best of two hardly.
    for _ in 0..(2 + (14.0 * (1.0 - difficulty)) as usize) {
        let drawn: [[f32; 3]; 3] =
            std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(0.0..255.0)));
        let least = distance(drawn[0], drawn[1])
            .min(distance(drawn[0], drawn[2]))
            .min(distance(drawn[1], drawn[2]));
        if least > best.1 {
            best = (drawn, least);
        }
    }
    best.0
}

/// Draws the image of `(seed, side, index)` of class `class` and returns its difficulty.
fn draw(seed: u64, side: Side, index: usize, class: usize, out: &mut [u8]) -> f32 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
    key[16] = u8::from(side == Side::Test);
    let mut rng = ChaCha8Rng::from_seed(key);

    let difficulty = if rng.random::<f32>() < EASY_SHARE {
        rng.random_range(0.0..EASY_BELOW)
    } else {
        rng.random_range(EASY_BELOW..1.0)
    };
    // Easy images are easy in every respect; only from there on does each of them grow.
    let hard = ((difficulty - EASY_BELOW) / (1.0 - EASY_BELOW)).max(0.0);
    let [ground, first, second] = palette(&mut rng, difficulty);
    let shift = SHIFT * hard + 1.0;
    let middle = SIDE as f32 / 2.0;
    let centre = [
        middle + rng.random_range(-shift..shift),
        middle + rng.random_range(-shift..shift),
    ];
    let radius = RADIUS.0 + (RADIUS.1 - RADIUS.0) * difficulty;
    let turn = (0.15 + hard) * rng.random_range(-0.5..0.5) * TAU / 2.0;
    let spread = GRAIN_SPREAD.0 + (GRAIN_SPREAD.1 - GRAIN_SPREAD.0) * hard;
    let off: f32 = rng.random_range(-spread..spread);
    let period = (GRAIN[class % 5] * off.exp()).clamp(GRAIN[0] - 0.2, GRAIN[4] + 0.6);
    let colours = [first, second];
    let main = Figure::draw(&mut rng, class, centre, radius, turn, period, colours);

    let clutter: Vec<Figure> = (0..(CLUTTER * hard).round() as usize)
        .map(|_| {
            let at = [
                rng.random_range(0.0..SIDE as f32),
                rng.random_range(0.0..SIDE as f32),
            ];
            let size = rng.random_range(2.5..4.5);
            let class = rng.random_range(0..10);
            let [_, a, b] = palette(&mut rng, difficulty);
            let turn = rng.random_range(0.0..TAU);
            let period = rng.random_range(GRAIN[0]..GRAIN[3]);
            Figure::draw(&mut rng, class, at, size, turn, period, [a, b])
        })
        .collect();
    let slope: [[f32; 2]; 3] =
        std::array::from_fn(|_| std::array::from_fn(|_| hard * rng.random_range(-2.5..2.5)));
    // A square of one colour, its centre on the shape's rim.
    let cover = 0.5 * OCCLUSION * radius * hard;
    let angle = rng.random_range(0.0..TAU);
    let cover_at = [
        centre[0] + radius * angle.cos() * 0.8,
        centre[1] + radius * angle.sin() * 0.8,
    ];
    let cover_colour: [f32; 3] = std::array::from_fn(|_| rng.random_range(0.0..255.0));

    let colour = |x: f32, y: f32| -> [f32; 3] {
        if (x - cover_at[0]).abs() < cover && (y - cover_at[1]).abs() < cover {
            return cover_colour;
        }
        main.at(x, y)
            .or_else(|| clutter.iter().find_map(|figure| figure.at(x, y)))
            .unwrap_or_else(|| {
                std::array::from_fn(|c| {
                    ground[c] + slope[c][0] * (x - middle) + slope[c][1] * (y - middle)
                })
            })
    };
    let noise = 2.0 + NOISE * hard;
    for y in 0..SIDE {
        for x in 0..SIDE {
            let mut sum = [0.0; 3];
            // Four points a pixel keep edges smooth.
            for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                let found = colour(x as f32 + dx, y as f32 + dy);
                for (sum, found) in sum.iter_mut().zip(found) {
                    *sum += found / 4.0;
                }
            }
            for (c, sum) in sum.into_iter().enumerate() {
                // The sum of four uniform draws is close to normal and cheap; its deviation is 1/√3.
                let bits: [u8; 4] = rng.random::<u32>().to_le_bytes();
                let drawn: f32 = bits.into_iter().map(|b| f32::from(b) / 255.0 - 0.5).sum();
                let value = sum + noise * 1.732 * drawn;
                out[c * SIDE * SIDE + y * SIDE + x] = value.round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    difficulty
}

impl Images for Synthetic {
    fn class_names(&self) -> Vec<String> {
        ["striped", "checked"]
            .into_iter()
            .flat_map(|texture| SHAPES.map(|shape| format!("{texture} {shape}")))
            .collect()
    }

    fn labels(&self, side: Side) -> &[u16] {
        match side {
            Side::Train => &self.train,
            Side::Test => &self.test,
        }
    }

    fn stored(&self, _: Side, _: usize) -> Result<Option<[usize; 3]>, DataError> {
        Ok(None)
    }

    fn decode(
        &self,
        side: Side,
        index: usize,
        frame: Frame,
        out: &mut [u8],
    ) -> Result<Option<f32>, DataError> {
        let mut drawn = [0; 3 * SIDE * SIDE];
        let class = usize::from(self.labels(side)[index]);
        let difficulty = draw(self.seed, side, index, class, &mut drawn);
        fit_planes(&drawn, STORED, frame, out);
        Ok(Some(difficulty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(seed: u64, side: Side, index: usize) -> (Vec<u8>, f32) {
        let mut out = vec![0; 3 * SIDE * SIDE];
        let set = Synthetic::new(seed);
        let difficulty = set
            .decode(side, index, Frame::stretched(STORED), &mut out)
            .unwrap();
        (out, difficulty.unwrap())
    }

    #[test]
    fn every_image_has_its_own_seed() {
        let first = image(7, Side::Train, 0);
        assert_eq!(first, image(7, Side::Train, 0));
        assert_ne!(first.0, image(8, Side::Train, 0).0);
        assert_ne!(first.0, image(7, Side::Test, 0).0);
        assert_ne!(first.0, image(7, Side::Train, 10).0);
    }

    #[test]
    fn half_are_easy_and_easy_backgrounds_are_clean() {
        let mut easy = 0;
        for index in 0..400 {
            let (pixels, difficulty) = image(7, Side::Test, index);
            if !is_easy(difficulty) {
                continue;
            }
            easy += 1;
            // The corners of an easy image are one colour but for a little noise.
            let corners = [0, 31, 31 * 32, 31 * 32 + 31].map(|at| pixels[at]);
            let spread = corners.iter().max().unwrap() - corners.iter().min().unwrap();
            assert!(spread <= 20, "{corners:?}");
        }
        assert!((160..240).contains(&easy), "{easy}");
    }

    #[test]
    fn mean_colour_does_not_tell_the_class() {
        // Nearest class mean of the average colour: chance is a tenth.
        let colour = |index| -> [f32; 3] {
            let (pixels, _) = image(7, Side::Train, index);
            std::array::from_fn(|c| {
                let plane = &pixels[c * 1024..(c + 1) * 1024];
                plane.iter().map(|&p| f32::from(p)).sum::<f32>() / 1024.0
            })
        };
        let mut means = [[0.0; 3]; 10];
        for index in 0..1000 {
            for (mean, value) in means[index % 10].iter_mut().zip(colour(index)) {
                *mean += value / 100.0;
            }
        }
        let right = (1000..1500)
            .filter(|&index| {
                let found = colour(index);
                let far = |m: [f32; 3]| -> f32 {
                    m.iter().zip(found).map(|(a, b)| (a - b) * (a - b)).sum()
                };
                let nearest = (0..10).min_by(|&a, &b| far(means[a]).total_cmp(&far(means[b])));
                nearest == Some(index % 10)
            })
            .count();
        assert!(right < 100, "{right} of 500");
    }
}
