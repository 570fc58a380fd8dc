/*!
The inner loops of training over plain slices: batch norm, sums, clamps, forward and backward.

Each is a loop that vectorises by itself, compiled once for AVX2 with FMA and once for what every
processor of the target has, chosen at run time.
*/

/// Lanes of a running sum: it runs in vector registers, and loses less than a single one.
const LANES: usize = 16;

/// Lowest and highest value that a clamp lets through.
pub type Bounds = (f32, f32);

/// Compiles a loop for both sets of instructions, and chooses.
macro_rules! loops {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $kind),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $kind),*) $(-> $result)? {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the instructions it is compiled for were just detected; its memory
                    // accesses are all checked.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    )*};
}

/// Lets NaN through, so that a diverging training shows.
#[inline(always)]
fn clamp(v: f32, (low, high): Bounds) -> f32 {
    let v = if v < low { low } else { v };
    if v > high { high } else { v }
}

/// The gradient behind a clamp: it passes where the result lies strictly inside.
#[inline(always)]
fn passes(g: f32, y: f32, (low, high): Bounds) -> f32 {
    if (y > low) & (y < high) { g } else { 0.0 }
}

/// Both sums of `terms` over pairs.
#[inline(always)]
fn sums(a: &[f32], b: &[f32], terms: impl Fn(f32, f32) -> [f32; 2]) -> [f32; 2] {
    let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (a, b) in ca.zip(cb) {
        for j in 0..LANES {
            let [s, t] = terms(a[j], b[j]);
            first[j] += s;
            second[j] += t;
        }
    }
    for (j, (&a, &b)) in ra.iter().zip(rb).enumerate() {
        let [s, t] = terms(a, b);
        first[j] += s;
        second[j] += t;
    }
    [first.iter().sum(), second.iter().sum()]
}

loops! {
    /// `Σ (x − origin)` and `Σ (x − origin)²`.
    fn moments(x: &[f32], origin: f32) -> [f32; 2] {
        sums(x, x, |x, _| [x - origin, (x - origin) * (x - origin)])
    }

    /// `y = clamp(factor · x + level)`.
    fn line(y: &mut [f32], x: &[f32], factor: f32, level: f32, bounds: Bounds) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = clamp(factor * x + level, bounds);
        }
    }

    /// With `g` where `factor · x + level` lies within bounds, else 0: `Σ g · (x − mean)`, `Σ g`.
    fn line_sums(
        g: &[f32],
        x: &[f32],
        mean: f32,
        factor: f32,
        level: f32,
        bounds: Bounds
    ) -> [f32; 2] {
        sums(g, x, |g, x| {
            let g = passes(g, factor * x + level, bounds);
            [g * (x - mean), g]
        })
    }

    /// With `g` as in [`line_sums`]: `g = factor · g − base − slope · x`.
    fn line_back(
        g: &mut [f32],
        x: &[f32],
        factor: f32,
        level: f32,
        bounds: Bounds,
        base: f32,
        slope: f32
    ) {
        for (g, &x) in g.iter_mut().zip(x) {
            *g = factor * passes(*g, factor * x + level, bounds) - base - slope * x;
        }
    }

    /// `y = clamp(a + b)`.
    fn clamped_sum(y: &mut [f32], a: &[f32], b: &[f32], bounds: Bounds) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = clamp(a + b, bounds);
        }
    }

    /// Takes the gradient away where the result `y` lies on a bound.
    fn mask(g: &mut [f32], y: &[f32], bounds: Bounds) {
        for (g, &y) in g.iter_mut().zip(y) {
            *g = passes(*g, y, bounds);
        }
    }

    /// Adds `more` to `sum`, element by element.
    fn add(sum: &mut [f32], more: &[f32]) {
        for (s, &m) in sum.iter_mut().zip(more) {
            *s += m;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_whole_at_any_length() {
        for n in 0..50 {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let sum: f32 = x.iter().sum();
            let squares: f32 = x.iter().map(|v| v * v).sum();
            assert_eq!(moments(&x, 0.0), [sum, squares]);
            let ones = vec![1.0; n];
            let inside = (-0.5, 3.5);
            let passed = x.iter().filter(|v| **v < 3.0);
            let passed: f32 = passed.sum();
            // y = x + 0.5 lies below 3.5 where x is 0, 1 or 2.
            let found = line_sums(&ones, &x, 0.0, 1.0, 0.5, inside);
            assert_eq!(found, [passed, n.min(3) as f32]);
        }
    }

    #[test]
    fn a_clamp_lets_nothing_but_nan_past_its_bounds() {
        let x = [-1.0, 0.0, 2.0, 9.0, f32::NAN];
        let mut y = [0.0; 5];
        clamped_sum(&mut y, &x, &[0.0; 5], (0.0, 6.0));
        assert_eq!(y[..4], [0.0, 0.0, 2.0, 6.0]);
        assert!(y[4].is_nan());
        let mut g = [1.0; 5];
        mask(&mut g, &y, (0.0, 6.0));
        assert_eq!(g, [0.0, 0.0, 1.0, 0.0, 0.0]);
        line_back(&mut g, &[1.0; 5], 2.0, 0.0, (0.0, 6.0), 0.5, 0.25);
        assert_eq!(g, [-0.75, -0.75, 1.25, -0.75, -0.75]);
    }
}
