//! What the dev servers of common frameworks are told by who prefers a configured base path to
//! rewritten pages. Text for people; nothing here changes what the proxy does.
//!
//! A server that knows its base and expects it in each request is asked below `/absport/N`; one that
//! only writes it into its pages, below `/port/N`.

use clap::ValueEnum;
use hpc_proxy::route::TargetPort;

/// A framework or program whose dev server has a base path to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Framework {
    Angular,
    Dash,
    Django,
    Fastapi,
    Flask,
    Gradio,
    Gunicorn,
    Jupyter,
    Mkdocs,
    Next,
    Nuxt,
    Shiny,
    Sphinx,
    Streamlit,
    Tensorboard,
    Vite,
    Webpack,
}

/// How a server is set up, and below which path it is then asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where it is opened, with a slash at its end.
    pub(crate) path: String,
    /// A command, or lines of a file that is named in a comment.
    pub(crate) lines: String,
}

impl Framework {
    /// What a server on `port` is told where browsers see this proxy below the path `outer`, often
    /// none; nothing where that cannot be, since whoever serves `outer` takes it off the base, too.
    pub(crate) fn settings(self, port: TargetPort, outer: &str) -> Option<Settings> {
        let whole = |lines| outer.is_empty().then(|| filled("/absport", port, lines));
        let stripped = |lines: &str| Some(filled(&format!("{outer}/port"), port, lines));
        let relative = |command| {
            let lines = "# its URLs are relative: there is no base path to set";
            stripped(&format!("{lines}\n{command}"))
        };
        match self {
            Self::Angular => whole(
                "# angular.json: projects.NAME.architect.build.options\n\
                 \"baseHref\": \"{base}/\"\n\
                 # and\n\
                 ng serve --port {port} --serve-path {base}/",
            ),
            Self::Dash => whole("DASH_URL_BASE_PATHNAME={base}/ python app.py"),
            Self::Django => whole(
                "# settings.py\n\
                 STATIC_URL = \"{base}/static/\"\n\
                 # wsgi.py, at its end\n\
                 django = application\n\
                 def application(environ, start_response):\n    \
                     environ[\"SCRIPT_NAME\"] = \"{base}\"\n    \
                     environ[\"PATH_INFO\"] = environ[\"PATH_INFO\"].removeprefix(\"{base}\")\n    \
                     return django(environ, start_response)\n\
                 # and\n\
                 python manage.py runserver {port}",
            ),
            Self::Fastapi => stripped("uvicorn app:app --port {port} --root-path {base}"),
            Self::Flask => stripped(
                "# app.py: the proxy states the path, and this believes it\n\
                 from werkzeug.middleware.proxy_fix import ProxyFix\n\
                 app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)\n\
                 # and\n\
                 flask run --port {port}",
            ),
            Self::Gradio => {
                stripped("GRADIO_ROOT_PATH={base} GRADIO_SERVER_PORT={port} python app.py")
            }
            Self::Gunicorn => whole("SCRIPT_NAME={base} gunicorn --bind 127.0.0.1:{port} app:app"),
            Self::Jupyter => {
                whole("jupyter lab --no-browser --port {port} --ServerApp.base_url={base}/")
            }
            Self::Mkdocs => relative("mkdocs serve --dev-addr 127.0.0.1:{port}"),
            Self::Next => whole(
                "# next.config.js\n\
                 module.exports = { basePath: \"{base}\" }\n\
                 # and\n\
                 next dev --port {port}",
            ),
            Self::Nuxt => whole("NUXT_APP_BASE_URL={base}/ nuxt dev --port {port}"),
            Self::Shiny => relative("shiny run --port {port}"),
            Self::Sphinx => relative("sphinx-autobuild --port {port} docs build"),
            Self::Streamlit => {
                whole("streamlit run app.py --server.port {port} --server.baseUrlPath {base}")
            }
            Self::Tensorboard => {
                whole("tensorboard --logdir runs --port {port} --path_prefix {base}")
            }
            Self::Vite => whole("vite --port {port} --base {base}/"),
            Self::Webpack => whole(
                "# webpack.config.js\n\
                 output: { publicPath: \"{base}/\" },\n\
                 devServer: {\n  \
                   port: {port},\n  \
                   static: { publicPath: \"{base}/\" },\n  \
                   client: { webSocketURL: { pathname: \"{base}/ws\" } },\n  \
                   webSocketServer: { type: \"ws\", options: { path: \"{base}/ws\" } },\n\
                 },",
            ),
        }
    }
}

fn filled(root: &str, port: TargetPort, lines: &str) -> Settings {
    let base = format!("{root}/{port}");
    Settings {
        lines: lines
            .replace("{base}", &base)
            .replace("{port}", &port.to_string()),
        path: base + "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, port: u16) -> Settings {
        let framework = Framework::from_str(name, false).unwrap();
        framework
            .settings(TargetPort::new(port).unwrap(), "")
            .unwrap()
    }

    #[test]
    fn a_server_is_told_the_base_that_it_is_asked_by() {
        for framework in Framework::value_variants() {
            let name = framework.to_possible_value().unwrap();
            let Settings { path, lines } = settings(name.get_name(), 5173);
            assert!(
                ["/port/5173/", "/absport/5173/"].contains(&&*path),
                "{path}"
            );
            assert!(
                lines.contains(path.trim_end_matches('/')) || lines.contains("#"),
                "{lines}"
            );
            let other = if path.starts_with("/port") {
                "absport"
            } else {
                "/port"
            };
            assert!(!lines.contains(other), "{lines}");
            for left in ["{base}", "{port}"] {
                assert!(!lines.contains(left), "{lines}");
            }
        }
    }

    #[test]
    fn a_base_that_is_taken_off_on_the_way_cannot_be_set() {
        let port = TargetPort::new(8000).unwrap();
        assert_eq!(Framework::Vite.settings(port, "/user/x"), None);
        let gradio = Framework::Gradio.settings(port, "/user/x").unwrap();
        assert_eq!(gradio.path, "/user/x/port/8000/");
        assert!(gradio.lines.contains("=/user/x/port/8000 "), "{gradio:?}");
    }

    #[test]
    fn each_is_told_in_its_own_way() {
        for (name, path, line) in [
            (
                "vite",
                "/absport/8000/",
                "vite --port 8000 --base /absport/8000/",
            ),
            (
                "dash",
                "/absport/8000/",
                "DASH_URL_BASE_PATHNAME=/absport/8000/ python app.py",
            ),
            (
                "nuxt",
                "/absport/8000/",
                "NUXT_APP_BASE_URL=/absport/8000/ nuxt dev --port 8000",
            ),
            (
                "gradio",
                "/port/8000/",
                "GRADIO_ROOT_PATH=/port/8000 GRADIO_SERVER_PORT=8000 python app.py",
            ),
            (
                "django",
                "/absport/8000/",
                "STATIC_URL = \"/absport/8000/static/\"",
            ),
            (
                "flask",
                "/port/8000/",
                "app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)",
            ),
            (
                "webpack",
                "/absport/8000/",
                "  client: { webSocketURL: { pathname: \"/absport/8000/ws\" } },",
            ),
            (
                "mkdocs",
                "/port/8000/",
                "mkdocs serve --dev-addr 127.0.0.1:8000",
            ),
        ] {
            let found = settings(name, 8000);
            assert_eq!(found.path, path, "{name}");
            assert!(
                found.lines.lines().any(|found| found == line),
                "{}",
                found.lines
            );
        }
    }
}
