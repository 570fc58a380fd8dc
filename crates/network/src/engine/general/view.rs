/*! Borrowed tensors of any element type: bytes that the compiled op knows how to read. */

use bytemuck::Pod;

/// Elements to read. Aligned for its element type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a>(pub &'a [u8]);

/// Elements to write. Aligned for its element type.
#[derive(Debug)]
pub(crate) struct ViewMut<'a>(pub &'a mut [u8]);

impl<'a> View<'a> {
    /// The elements as `T`, which must be as wide as the tensor's element type.
    pub(crate) fn of<T: Pod>(self) -> &'a [T] {
        bytemuck::cast_slice(self.0)
    }
}

impl ViewMut<'_> {
    /// The elements as `T`, which must be as wide as the tensor's element type.
    pub(crate) fn of<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.0)
    }
}

/// Runs `$body` with `$t` bound to an unsigned integer as wide as an element of `$dtype`: enough for
/// ops that only move elements.
macro_rules! by_width {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype.bytes() {
            8 => {
                type $t = u64;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            _ => {
                type $t = u8;
                $body
            }
        }
    };
}

/// Runs `$body` with `$t` bound to the number type of `$dtype`; booleans are refused.
macro_rules! by_number {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            crate::model::DType::F32 => {
                type $t = f32;
                $body
            }
            crate::model::DType::I64 => {
                type $t = i64;
                $body
            }
            crate::model::DType::I32 => {
                type $t = i32;
                $body
            }
            crate::model::DType::U8 => {
                type $t = u8;
                $body
            }
            crate::model::DType::I8 => {
                type $t = i8;
                $body
            }
            crate::model::DType::Bool => Err("booleans".to_string()),
        }
    };
}

pub(super) use {by_number, by_width};

/// The arithmetic that ONNX asks of every number type. Integers wrap.
pub(super) trait Number: Pod + PartialOrd + PartialEq + Send + Sync {
    const ZERO: Self;
    const ONE: Self;
    /// Below or equal to every value.
    const LOWEST: Self;
    /// Above or equal to every value.
    const HIGHEST: Self;
    /// Whether dividing by zero has no value.
    const INTEGER: bool;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    /// Towards zero for integers; the divisor is not zero.
    fn div(self, o: Self) -> Self;
    /// The divisor is not zero for integers. Sign of the divisor for integers (`fmod` 0), of the
    /// dividend for floats (`fmod` 1), which are the only forms ONNX defines for each.
    fn modulo(self, o: Self) -> Self;
    fn pow(self, o: Self) -> Self;
    fn abs(self) -> Self;
    fn to_f64(self) -> f64;
    /// Converts a number; what lies beyond the type's range becomes its bound.
    fn from_f64(x: f64) -> Self;
    /// Itself, or zero where it is negative.
    fn positive(self) -> Self {
        if self > Self::ZERO { self } else { Self::ZERO }
    }
    /// Itself, or itself times `slope` where it is negative.
    fn leak(self, slope: Self) -> Self {
        if self < Self::ZERO {
            self.mul(slope)
        } else {
            self
        }
    }
    /// -1, 0 or 1.
    fn sign(self) -> Self {
        let (above, below) = (self > Self::ZERO, self < Self::ZERO);
        Self::from_f64(f64::from(u8::from(above)) - f64::from(u8::from(below)))
    }
}

impl Number for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::NEG_INFINITY;
    const HIGHEST: Self = f32::INFINITY;
    const INTEGER: bool = false;
    fn add(self, o: Self) -> Self {
        self + o
    }
    fn sub(self, o: Self) -> Self {
        self - o
    }
    fn mul(self, o: Self) -> Self {
        self * o
    }
    fn div(self, o: Self) -> Self {
        self / o
    }
    fn modulo(self, o: Self) -> Self {
        self % o
    }
    fn pow(self, o: Self) -> Self {
        // Squares and roots are what networks ask for, and `powf` is neither exact nor fast there.
        if o == 2.0 {
            self * self
        } else if o == 0.5 {
            self.sqrt()
        } else {
            self.powf(o)
        }
    }
    fn abs(self) -> Self {
        f32::abs(self)
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(x: f64) -> Self {
        x as f32
    }
}

macro_rules! integer {
    ($t:ty, $abs:expr) => {
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
            const INTEGER: bool = true;
            fn add(self, o: Self) -> Self {
                self.wrapping_add(o)
            }
            fn sub(self, o: Self) -> Self {
                self.wrapping_sub(o)
            }
            fn mul(self, o: Self) -> Self {
                self.wrapping_mul(o)
            }
            fn div(self, o: Self) -> Self {
                self.wrapping_div(o)
            }
            fn modulo(self, o: Self) -> Self {
                let m = self.wrapping_rem(o);
                #[allow(unused_comparisons)]
                if m != 0 && (m < 0) != (o < 0) {
                    m.wrapping_add(o)
                } else {
                    m
                }
            }
            fn pow(self, o: Self) -> Self {
                match u32::try_from(o) {
                    Ok(e) => self.wrapping_pow(e),
                    Err(_) => <$t>::from_f64((self as f64).powf(o as f64)),
                }
            }
            fn abs(self) -> Self {
                let abs: fn($t) -> $t = $abs;
                abs(self)
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(x: f64) -> Self {
                x as $t
            }
        }
    };
}

integer!(i64, i64::wrapping_abs);
integer!(i32, i32::wrapping_abs);
integer!(u8, |x| x);
integer!(i8, i8::wrapping_abs);
