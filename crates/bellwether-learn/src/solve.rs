//! Small symmetric systems by Cholesky decomposition (Golub and Van Loan, Matrix Computations, 4.2). Written here
//! because a fit needs nothing else of linear algebra, and so that its sums are always taken in one order.

/// A square matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    size: usize,
    cells: Vec<f64>,
}

impl Matrix {
    pub(crate) fn zero(size: usize) -> Matrix {
        Matrix { size, cells: vec![0.0; size * size] }
    }

    pub(crate) fn diagonal(entries: &[f64]) -> Matrix {
        let mut matrix = Matrix::zero(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            matrix.add(index, index, *entry);
        }
        matrix
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.size + column]
    }

    pub(crate) fn add(&mut self, row: usize, column: usize, value: f64) {
        self.cells[row * self.size + column] += value;
    }

    /// Adds `weight * x * x'`.
    pub(crate) fn add_outer(&mut self, x: &[f64], weight: f64) {
        for (row, a) in x.iter().enumerate() {
            for (column, b) in x.iter().enumerate() {
                self.add(row, column, weight * a * b);
            }
        }
    }

    /// Ties the variables that are not free to zero: their rows and columns become those of the unit matrix.
    pub(crate) fn tie(&mut self, free: &[bool]) {
        for row in 0..self.size {
            for column in 0..self.size {
                if !(free[row] && free[column]) {
                    self.cells[row * self.size + column] = f64::from(u8::from(row == column));
                }
            }
        }
    }

    /// The lower triangle `L` of `L * L'`, or `None` where the matrix is not positive definite.
    pub(crate) fn cholesky(&self) -> Option<Cholesky> {
        let mut lower = Matrix::zero(self.size);
        for row in 0..self.size {
            for column in 0..=row {
                let known: f64 = (0..column).map(|k| lower.at(row, k) * lower.at(column, k)).sum();
                let rest = self.at(row, column) - known;
                let entry = if row == column {
                    if rest.is_nan() || rest <= 0.0 {
                        return None;
                    }
                    rest.sqrt()
                } else {
                    rest / lower.at(column, column)
                };
                lower.add(row, column, entry);
            }
        }
        Some(Cholesky { lower })
    }
}

/// A decomposed matrix.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky {
    lower: Matrix,
}

impl Cholesky {
    /// The `x` of `A * x = b`.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let (lower, size) = (&self.lower, self.lower.size);
        let mut x = b.to_vec();
        for row in 0..size {
            let known: f64 = (0..row).map(|k| lower.at(row, k) * x[k]).sum();
            x[row] = (x[row] - known) / lower.at(row, row);
        }
        for row in (0..size).rev() {
            let known: f64 = (row + 1..size).map(|k| lower.at(k, row) * x[k]).sum();
            x[row] = (x[row] - known) / lower.at(row, row);
        }
        x
    }

    /// The inverse of the matrix.
    pub(crate) fn inverse(&self) -> Matrix {
        let size = self.lower.size;
        let mut inverse = Matrix::zero(size);
        for column in 0..size {
            let mut unit = vec![0.0; size];
            unit[column] = 1.0;
            for (row, value) in self.solve(&unit).into_iter().enumerate() {
                inverse.add(row, column, value);
            }
        }
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_worked_by_hand() {
        // [4 2; 2 3] x = [10; 8]: x = [1.75; 1.5]; the inverse is [3 -2; -2 4] / 8.
        let mut matrix = Matrix::diagonal(&[4.0, 3.0]);
        matrix.add(0, 1, 2.0);
        matrix.add(1, 0, 2.0);
        let cholesky = matrix.cholesky().expect("positive definite");
        let x = cholesky.solve(&[10.0, 8.0]);
        assert!((x[0] - 1.75).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12, "{x:?}");
        let inverse = cholesky.inverse();
        assert!((inverse.at(0, 0) - 0.375).abs() < 1e-12);
        assert!((inverse.at(1, 0) + 0.25).abs() < 1e-12);
    }

    #[test]
    fn an_indefinite_matrix_is_refused() {
        assert!(Matrix::diagonal(&[1.0, -1.0]).cholesky().is_none());
        assert!(Matrix::diagonal(&[1.0, f64::NAN]).cholesky().is_none());
    }
}
