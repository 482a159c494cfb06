//! What the program reports.

use super::method::Choice;
use super::support::json::Json;

pub struct Report {
    pub observations: usize,
    pub data_dim: usize,
    pub missing: usize,
    pub without_entries: usize,
    /// How often each mark of a missing value was read.
    pub marks: Vec<(String, usize)>,
    /// The number of constant columns, which are not part of the fit.
    pub constant: usize,
    pub log_likelihood: f64,
    pub noise_variance: f64,
    pub iterations: usize,
    pub stop: &'static str,
    pub seconds: f64,
    /// The log-likelihood that each initialisation reached; empty for a single one.
    pub starts: Vec<f64>,
    pub model: &'static str,
    pub standardized: bool,
    /// The floor of the noise that was set because of an exact identity.
    pub identity_floor: Option<f64>,
    /// Each column with limits, and the number of its imputed entries.
    pub bounded: Vec<(String, usize)>,
    pub choice: Choice,
}

impl Report {
    pub fn json(&self) -> Json {
        let errors = self.choice.errors;
        Json::Object(vec![
            ("observations", self.observations.into()),
            ("data_dim", self.data_dim.into()),
            ("latent_dim", self.choice.latent_dim.into()),
            ("missing", self.missing.into()),
            ("log_likelihood", self.log_likelihood.into()),
            ("noise_variance", self.noise_variance.into()),
            ("iterations", self.iterations.into()),
            ("stop", self.stop.into()),
            ("seconds", self.seconds.into()),
            ("model", self.model.into()),
            ("held_out_error", errors.map(|(error, _)| error).into()),
            ("held_out_error_of_means", errors.map(|(_, means)| means).into()),
            ("noise_floor_of_identity", self.identity_floor.into()),
        ])
    }

    pub fn text(&self) -> String {
        let entries = self.observations * self.data_dim;
        let share = 100.0 * self.missing as f64 / entries as f64;
        let mut text =
            format!("{} observations of {} variables\n", self.observations, self.data_dim);
        text +=
            &format!("missing            {} of {entries} entries ({share:.1} %)\n", self.missing);
        if !self.marks.is_empty() {
            let count = |(mark, count): &(String, usize)| match mark.as_str() {
                "" => format!("{count} empty"),
                _ => format!("{count} {mark}"),
            };
            let counts: Vec<String> = self.marks.iter().map(count).collect();
            text += &format!("                   {}\n", counts.join(", "));
        }
        if self.without_entries > 0 {
            text += &format!(
                "                   {} observations have no entry: the mean is imputed\n",
                self.without_entries
            );
        }
        if self.constant > 0 {
            text += &format!(
                "                   {} columns are constant: not part of the fit\n",
                self.constant
            );
        }
        text += &self.choice();
        if self.standardized {
            text += "units              standard deviations of the observed entries\n";
        }
        text += &format!(
            "log-likelihood     {:.6} nats, of the observed entries\n",
            self.log_likelihood
        );
        if let Some(worst) = self.starts.iter().copied().reduce(f64::min) {
            let below =
                self.starts.iter().filter(|start| self.log_likelihood - *start > 0.01).count();
            let (count, spread) = (self.starts.len(), self.log_likelihood - worst);
            text += &format!(
                "starts             {count}, {below} of them more than 0.01 nats below the best, \
                 by up to {spread:.2e}\n"
            );
        }
        text += &format!("noise variance     {:.6e}\n", self.noise_variance);
        if let Some(floor) = self.identity_floor {
            text += &format!(
                "                   the observed entries obey an exact identity: completed by it, \
                 with a noise floor of {floor:e} of the variance\n"
            );
        }
        for (column, count) in &self.bounded {
            text += &format!(
                "bounds             {column}: {count} entries by the truncated conditional mean\n"
            );
        }
        text += &format!(
            "fit                {} iterations, {}, {:.3} s\n",
            self.iterations, self.stop, self.seconds
        );
        text
    }

    /// The latent dimension, how it was chosen, and the errors that led to it.
    fn choice(&self) -> String {
        let Choice { latent_dim, rule, errors, at_edge } = &self.choice;
        let how = if rule.is_empty() { String::new() } else { format!(" (chosen by {rule})") };
        let mut text = format!("latent dimensions  {latent_dim}{how}\n");
        if *at_edge {
            text += "                   the largest that was tried is the best\n";
        }
        if let Some((error, means)) = errors {
            text += &format!(
                "held-out error     {error:.3} standard deviations; that of the column means is \
                 {means:.3}\n"
            );
        }
        if *latent_dim == 0 {
            text += "                   no model is better than the mean of each column, which is \
                     imputed\n";
        }
        text
    }
}
