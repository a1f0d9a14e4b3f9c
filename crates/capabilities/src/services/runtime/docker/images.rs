//! Which images may be used, and what their names mean.

use bollard::errors::Error as DockerError;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use opsroom_core::{Error, Result};

use super::super::Note;
use super::Docker;

impl Docker {
    /// The digest (or the id, for an image that has none) that a name means now. A name that is allowed
    /// and is not there is pulled.
    pub(super) async fn pin_image(&self, image: &str, note: Note<'_>) -> Result<String> {
        check(image, &self.allowed_images)?;
        let client = self.client().await?;
        let found = match client.inspect_image(image).await {
            Err(DockerError::DockerResponseServerError { status_code: 404, .. })
                if !self.allowed_images.is_empty() =>
            {
                note(&format!("pulling {image}"));
                self.pull(image).await?;
                client.inspect_image(image).await
            }
            answer => answer,
        };
        let found = found.map_err(|error| match error {
            DockerError::DockerResponseServerError { status_code: 404, .. } => Error::not_found(format!(
                "image: there is no image `{image}` on the engine; pull or build it there, or list it in \
                 `services.allowed_images`"
            )),
            other => self.failed(other),
        })?;
        let repository = repository(image);
        let digests = found.repo_digests.unwrap_or_default();
        let digest = digests.iter().find(|digest| digest.split('@').next() == Some(repository));
        digest
            .cloned()
            .or(found.id)
            .ok_or_else(|| Error::unavailable("the engine gave an image without an id"))
    }

    async fn pull(&self, image: &str) -> Result<()> {
        // Without a tag the engine would pull every one.
        let whole = if image.contains('@') || tag(image).is_some() {
            image.to_owned()
        } else {
            format!("{image}:latest")
        };
        let options = CreateImageOptionsBuilder::new().from_image(&whole).build();
        let mut steps = self.client().await?.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| self.failed(error))?;
            if let Some(trouble) = step.error_detail.and_then(|detail| detail.message) {
                return Err(Error::unavailable(format!(
                    "image: `{image}` cannot be pulled: {}",
                    super::plain(&trouble)
                )));
            }
        }
        Ok(())
    }

    /// The user of an image, where it names one that is not root.
    pub(super) async fn image_user(&self, image: &str) -> Result<Option<String>> {
        let found = self.client().await?.inspect_image(image).await.map_err(|error| self.failed(error))?;
        Ok(found.config.and_then(|config| config.user).filter(|user| !is_root(user)))
    }
}

/// Whether a user of a container is root, or may be: `user`, `uid`, `user:group`, `uid:gid`.
pub(in crate::services) fn is_root(user: &str) -> bool {
    let name = user.trim().split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.trim_start_matches(['0', '+']).is_empty()
}

/// The name of an image without its tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match tag(name) {
        Some(tag) => &name[..name.len() - tag.len() - 1],
        None => name,
    }
}

/// The tag: what is after a colon that is not before a port of a registry.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or(image);
    name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

/// Whether an image may be used, by the list of those that are allowed; an empty list allows what is on
/// the engine.
///
/// # Errors
/// `Invalid` for what is no name of an image, `Forbidden` for one that is not allowed.
pub(in crate::services) fn check(image: &str, allowed: &[String]) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if image.is_empty()
        || image.len() > 255
        || !image.chars().all(plain)
        || !image.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(Error::invalid(format!(
            "image: `{}` is no name of an image such as `weather:1.0` or `ghcr.io/acme/weather@sha256:...`",
            image.escape_debug()
        )));
    }
    let name = repository(image);
    let known = |rule: &String| match rule.strip_suffix("/*") {
        Some(above) => name.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None => rule == name || rule == image,
    };
    if allowed.is_empty() || allowed.iter().any(known) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "image: `{image}` is not in `services.allowed_images` of the configuration"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_images_are_allowed() {
        let allowed = ["ghcr.io/acme/*".to_owned(), "weather".to_owned(), "localhost:5000/x:1".to_owned()];
        for image in
            ["ghcr.io/acme/a:1", "ghcr.io/acme/b/c@sha256:ab", "weather", "weather:2", "localhost:5000/x:1"]
        {
            check(image, &allowed).unwrap();
        }
        for image in [
            "ghcr.io/acme",
            "ghcr.io/acmeevil/a",
            "weather2",
            "evil/weather",
            "localhost:5000/x:2",
            "x/ghcr.io/acme/a",
        ] {
            assert!(check(image, &allowed).is_err(), "{image}");
        }
        for image in ["", "-x", "a b", "a\nb", "a?b=c", "../x", "a;b"] {
            assert_eq!(check(image, &[]).unwrap_err().kind, opsroom_core::Kind::Invalid, "{image}");
        }
    }

    #[test]
    fn root_is_known_by_each_of_its_names() {
        for user in ["", "0", "root", "0:0", "root:users", "00", ":5", " 0 "] {
            assert!(is_root(user), "{user}");
        }
        for user in ["1000", "65532:65532", "nobody", "app:0"] {
            assert!(!is_root(user), "{user}");
        }
    }

    #[test]
    fn a_name_is_parted_from_its_tag_and_digest() {
        for (image, name) in [
            ("weather", "weather"),
            ("weather:1.0", "weather"),
            ("localhost:5000/weather", "localhost:5000/weather"),
            ("localhost:5000/weather:1@sha256:ab", "localhost:5000/weather"),
        ] {
            assert_eq!(repository(image), name);
        }
    }
}
