//! The two names of a claim: the short one in tokens, and the URI under which .NET applications look for it.
//!
//! The pairs are those of .NET's `JwtSecurityTokenHandler`. The SDK shortens when it signs, and expects the service to undo that: with
//! short names alone an app would see neither the user's name nor roles.

/// The URI of what identifies a user.
pub(super) const NAME_IDENTIFIER: &str =
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";

/// The URI for a short name, if .NET has one.
pub(super) fn long(short: &str) -> Option<&'static str> {
    let index = NAMES
        .binary_search_by_key(&short, |(short, _)| short)
        .ok()?;
    NAMES.get(index).map(|(_, long)| *long)
}

/// Sorted by the short name.
static NAMES: [(&str, &str); 35] = [
    (
        "acr",
        "http://schemas.microsoft.com/claims/authnclassreference",
    ),
    (
        "actort",
        "http://schemas.xmlsoap.org/ws/2009/09/identity/claims/actor",
    ),
    (
        "adfs1email",
        "http://schemas.xmlsoap.org/claims/EmailAddress",
    ),
    ("adfs1upn", "http://schemas.xmlsoap.org/claims/UPN"),
    (
        "amr",
        "http://schemas.microsoft.com/claims/authnmethodsreferences",
    ),
    (
        "authmethod",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/authenticationmethod",
    ),
    (
        "birthdate",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/dateofbirth",
    ),
    (
        "certpublickey",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/rsa",
    ),
    (
        "certserialnumber",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/serialnumber",
    ),
    (
        "certthumbprint",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/thumbprint",
    ),
    ("commonname", "http://schemas.xmlsoap.org/claims/CommonName"),
    (
        "denyonlyprimarygroupsid",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/denyonlyprimarygroupsid",
    ),
    (
        "denyonlyprimarysid",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/denyonlyprimarysid",
    ),
    (
        "denyonlysid",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/denyonlysid",
    ),
    (
        "email",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    ),
    (
        "family_name",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname",
    ),
    (
        "gender",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/gender",
    ),
    (
        "given_name",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname",
    ),
    ("group", "http://schemas.xmlsoap.org/claims/Group"),
    (
        "groupsid",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/groupsid",
    ),
    (
        "idp",
        "http://schemas.microsoft.com/identity/claims/identityprovider",
    ),
    ("nameid", NAME_IDENTIFIER),
    (
        "oid",
        "http://schemas.microsoft.com/identity/claims/objectidentifier",
    ),
    (
        "ppid",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/privatepersonalidentifier",
    ),
    (
        "primarygroupsid",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid",
    ),
    (
        "primarysid",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarysid",
    ),
    (
        "role",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    ),
    (
        "roles",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    ),
    ("scp", "http://schemas.microsoft.com/identity/claims/scope"),
    ("sub", NAME_IDENTIFIER),
    (
        "tid",
        "http://schemas.microsoft.com/identity/claims/tenantid",
    ),
    (
        "unique_name",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    ),
    (
        "upn",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    ),
    (
        "website",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/webpage",
    ),
    (
        "winaccountname",
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/windowsaccountname",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(NAMES.is_sorted_by(|(left, _), (right, _)| left < right));
        assert!(NAMES.iter().all(|(short, uri)| long(short) == Some(uri)));
        assert_eq!(long("custom"), None);
    }
}
