//! Tries a link as its receiver will: that shows what the owner can't see.

use reqwest::Url;
use zeroize::Zeroizing;

use super::error::ShareError;
use crate::account::Session;
use crate::dav::{DavError, Login};

/// The first version with the newer address for receivers.
const NEW_ADDRESS_SINCE: u32 = 29;
/// Where a link leads that asks for its password: from version 29 on in lower case.
const PASSWORD_PAGE: &str = "/authenticate/showshare";

/// Makes sure that a link asks for its password, and leads to a file of this length with it.
pub(super) async fn try_link(
    session: &Session,
    url: &Url,
    token: &str,
    password: &Zeroizing<String>,
    len: u64,
) -> Result<(), ShareError> {
    let wrong = |why: &str| ShareError::NotAsAsked(why.to_owned());
    let visit = session.client.visit(url).await?;
    let address = session.client.address();
    let asks = |to: &Url| {
        let is_here = address.includes(to) || address.corrected(to).is_some();
        is_here && to.path().to_ascii_lowercase().ends_with(PASSWORD_PAGE)
    };
    match visit.status {
        _ if visit.location.as_ref().is_some_and(asks) => {}
        200 => return Err(wrong("whoever opens it is not asked for a password")),
        300..=399 => return Err(wrong("it leads elsewhere")),
        status => return Err(wrong(&format!("it can't be opened: {status}"))),
    }
    let login = |name: &str| Login { name: name.to_owned(), password: password.clone() };
    let seen = if session.capabilities.major >= NEW_ADDRESS_SINCE {
        let receiver = session.client.with_login(login("anonymous"));
        receiver.len_at(&format!("public.php/dav/files/{token}/")).await
    } else {
        session.client.with_login(login(token)).len_told("public.php/webdav").await
    };
    match seen {
        Ok(seen) if seen == len => Ok(()),
        Ok(_) => Err(wrong("its file has another length")),
        Err(DavError::LoginRefused { .. }) => Err(wrong("it does not open with its password")),
        Err(DavError::Refused { status, .. }) => {
            Err(wrong(&format!("it can't be opened with its password: {status}")))
        }
        Err(error) => Err(error.into()),
    }
}
