//! The form by which a session is launched. What is wrong with a field is said beside it: the script
//! finds the field by the name that [`crate::wish::Refused`] gives.

use hpc_proxy::answer::escape;

use crate::{names::ClusterName, sessions::Terms};

/// A field, its limits in words.
struct Field<'a> {
    name: &'a str,
    label: &'a str,
    hint: String,
}

impl Field<'_> {
    fn html(&self, control: &str) -> String {
        let Self { name, label, hint } = self;
        let name = escape(name);
        let (label, hint) = (escape(label), escape(hint));
        format!(
            "<div class=\"field\"><label for=\"field-{name}\">{label}</label>{control}\
             <p class=\"hint\" id=\"hint-{name}\">{hint}</p>\
             <p class=\"error\" id=\"error-{name}\"></p></div>\n"
        )
    }

    /// The attributes that join a control to its label, its hint and its error.
    fn joined(&self) -> String {
        let name = escape(self.name);
        format!("id=\"field-{name}\" name=\"{name}\" aria-describedby=\"hint-{name} error-{name}\"")
    }

    fn text(&self) -> String {
        let control = format!(
            "<input {} autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\">",
            self.joined()
        );
        self.html(&control)
    }

    /// Of all these: what is sent, and what a person reads.
    fn choice<A: ToString, B: ToString>(&self, all: impl Iterator<Item = (A, B)>) -> String {
        let option = |(value, label): (A, B)| {
            let (value, label) = (value.to_string(), label.to_string());
            format!(
                "<option value=\"{}\">{}</option>",
                escape(&value),
                escape(&label)
            )
        };
        let all: String = all.map(option).collect();
        let control = format!(
            "<select {}><option value=\"\">as usual</option>{all}</select>",
            self.joined()
        );
        self.html(&control)
    }
}

/// What a new session is to have; what is left empty is as usual.
pub(super) fn launch(terms: &Terms, clusters: &[ClusterName]) -> String {
    let (usual, limits) = (&terms.resources, &terms.limits);
    let field = |name, label, hint: String| Field { name, label, hint };
    let mut fields = String::new();
    if terms.ides.are_several() {
        let all = terms.ides.all();
        let hint = bounds(all.first().map(|ide| &ide.title), None::<&str>);
        fields += &field("ide", "IDE", hint).choice(all.iter().map(|ide| (&ide.name, &ide.title)));
    }
    if clusters.len() > 1 {
        let hint = bounds(clusters.first(), None::<&str>);
        fields += &field("cluster", "Cluster", hint).choice(clusters.iter().map(|it| (it, it)));
    }
    let partition = field(
        "partition",
        "Partition",
        bounds(usual.partition.as_ref(), None::<&str>),
    );
    fields += &if limits.partitions.is_empty() {
        partition.text()
    } else {
        partition.choice(limits.partitions.iter().map(|it| (it, it)))
    };
    let form = "As days-hours:minutes:seconds or minutes.";
    let hint = format!("{} {form}", bounds(Some(&usual.time), limits.time.as_ref()));
    fields += &field("time", "Time", hint).text();
    let cpus = field(
        "cpus",
        "Processors",
        bounds(Some(&usual.cpus), limits.cpus.as_ref()),
    );
    let most = limits
        .cpus
        .map_or_else(String::new, |most| format!(" max=\"{most}\""));
    fields += &cpus.html(&format!(
        "<input {} type=\"number\" inputmode=\"numeric\" min=\"1\"{most}>",
        cpus.joined()
    ));
    let hint = bounds(usual.memory.as_ref(), limits.memory.as_ref());
    fields += &field(
        "mem",
        "Memory",
        format!("{hint} Such as 8G.").trim().to_owned(),
    )
    .text();
    fields += &field("gres", "GPUs and the like", "Such as gpu:1.".into()).text();
    fields += &field("account", "Account", "Whom it is charged to.".into()).text();
    fields += &field("node", "Node", "If it must be that one.".into()).text();
    for name in &limits.options {
        let (name, label) = (format!("options.{name}"), format!("--{name}"));
        let hint = "An option of sbatch.".into();
        let (name, label) = (name.as_str(), label.as_str());
        fields += &Field { name, label, hint }.text();
    }
    format!(
        "<section aria-labelledby=\"launch-title\"><h2 id=\"launch-title\">New session</h2>\n\
         <form id=\"launch\"><details><summary>Options</summary>\n<div class=\"fields\">{fields}</div></details>\n\
         <p class=\"actions\"><button class=\"main\">Launch</button> \
         <span id=\"launch-state\" role=\"status\"></span></p>\
         <p id=\"launch-error\" class=\"error\" role=\"alert\"></p></form></section>\n"
    )
}

/// What is usual, and what is the most.
fn bounds(usual: Option<impl ToString>, most: Option<impl ToString>) -> String {
    let usual = usual.map(|usual| format!("Usually {}", usual.to_string()));
    let most = most.map(|most| format!("at most {}", most.to_string()));
    let said: Vec<_> = usual.into_iter().chain(most).collect();
    let mut said = said.join(", ");
    if let Some(first) = said.get(..1) {
        said = first.to_uppercase() + &said[1..] + ".";
    }
    said
}
