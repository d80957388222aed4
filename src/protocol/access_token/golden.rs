//! Tokens recorded from Microsoft.Azure.SignalR 1.34.0, signed again with the well-known key of Microsoft's emulator. They live from
//! 1800000000.

/// A token and what it says.
pub(super) struct Golden {
    pub(super) token: &'static str,
    pub(super) side: &'static str,
    pub(super) hub: &'static str,
    pub(super) claims: &'static [(&'static str, &'static str)],
}

pub(super) const KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";

pub(super) const ALL: [&Golden; 7] = [
    &SERVER,
    &ANONYMOUS,
    &PRINCIPAL,
    &ALL_OPTIONS,
    &PRINCIPAL_ALL_OPTIONS,
    &STICKY_PREFERRED,
    &SECOND_HUB,
];

/// An app server.
pub(super) const SERVER: Golden = Golden {
    token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJuYW1laWQiOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAzNjAwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L3NlcnZlci8_aHViPWNoYXQifQ.0nHtOWl_TzflU2ZmtSTz-9olMEp0V2eAISVWlNZT9pw",
    side: "server",
    hub: "chat",
    claims: &[
        ("nameid", "s1_0123456789abcdef0123456789abcdef"),
        ("nbf", "1800000000"),
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/server/?hub=chat"),
    ],
};

/// A client without a user.
pub(super) const ANONYMOUS: Golden = Golden {
    token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMuZGVycm9yIjoiVHJ1ZSIsIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAzNjAwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L2NsaWVudC8_aHViPWNoYXQifQ.VVuSde0hr9NNzcbVbLhSy3VR8ap_quWNsMtrTolmOII",
    side: "client",
    hub: "chat",
    claims: &[
        ("asrs.s.derror", "True"),
        ("nbf", "1800000000"),
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=chat"),
    ],
};

/// A user with two roles, a `sub` beside the name identifier, renamed system claims and typed values.
pub(super) const PRINCIPAL: Golden = Golden {
    token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMudWlkIjoidTEiLCJhc3JzLnMuZGVycm9yIjoiVHJ1ZSIsIm5hbWVpZCI6InUxIiwidW5pcXVlX25hbWUiOiJ1MSBOYW1lIiwicm9sZSI6WyJyMSIsInIyIl0sImVtYWlsIjoidTFAZXhhbXBsZS5jb20iLCJzdWIiOiJzdWItdTEiLCJhc3JzLnUuYXVkIjoib3JpZy1hdWQiLCJhc3JzLnUuaXNzIjoib3JpZy1pc3MiLCJhc3JzLnUuZXhwIjoiMTkwMDAwMDAwMCIsIm4iOjQyLCJmbGFnIjp0cnVlLCJqIjp7ImEiOjF9LCJuYmYiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDAwMzYwMCwiaWF0IjoxODAwMDAwMDAwLCJpc3MiOiJhenVyZS1zaWduYWxyIiwiYXVkIjoiaHR0cDovL2xvY2FsaG9zdC9jbGllbnQvP2h1Yj1jaGF0In0.Wu89lsUP8DImZBShxHo2SUq0RX1IskSffm8AnPrq9uE",
    side: "client",
    hub: "chat",
    claims: &[
        ("asrs.s.uid", "u1"),
        ("asrs.s.derror", "True"),
        ("nameid", "u1"),
        ("unique_name", "u1 Name"),
        ("role", "r1"),
        ("role", "r2"),
        ("email", "u1@example.com"),
        ("sub", "sub-u1"),
        ("asrs.u.aud", "orig-aud"),
        ("asrs.u.iss", "orig-iss"),
        ("asrs.u.exp", "1900000000"),
        ("n", "42"),
        ("flag", "true"),
        ("j", r#"{"a":1}"#),
        ("nbf", "1800000000"),
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=chat"),
    ],
};

/// HS512, an app prefix, and most of the options that a token can carry.
pub(super) const ALL_OPTIONS: Golden = Golden {
    token: "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMuc24iOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImFzcnMucy5zc3RpY2t5IjoiUmVxdWlyZWQiLCJhc3JzLnMuZGMiOiJ0cnVlIiwiYXNycy5zLmRlcnJvciI6IlRydWUiLCJhc3JzLnMudHRsIjoiMTAiLCJhc3JzLnMuaHR0IjoiNSIsIm5hbWVpZCI6ImFsaWNlIiwiY3VzdG9tIjoidjEiLCJyb2xlIjpbImEiLCJiIl0sIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAwMTIwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L2NsaWVudC8_aHViPWFwcDFfY2hhdCJ9.3bN5olN_qiPLfohq_Z4vZUAGZ5uFKAyaGiAluzGSDjUy2DwHFegoedPE1bfE_ycie4uhuuZrrNK5CZGbC_aj6w",
    side: "client",
    hub: "app1_chat",
    claims: &[
        ("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef"),
        ("asrs.s.ssticky", "Required"),
        ("asrs.s.dc", "true"),
        ("asrs.s.derror", "True"),
        ("asrs.s.ttl", "10"),
        ("asrs.s.htt", "5"),
        ("nameid", "alice"),
        ("custom", "v1"),
        ("role", "a"),
        ("role", "b"),
        ("nbf", "1800000000"),
        ("exp", "1800000120"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=app1_chat"),
    ],
};

/// The same for a user with two name identifiers, custom claim types and an end of the login.
pub(super) const PRINCIPAL_ALL_OPTIONS: Golden = Golden {
    token: "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMudWlkIjoiYm9iIiwiYXNycy5zLnNuIjoiczFfMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYiLCJhc3JzLnMuc3N0aWNreSI6IlJlcXVpcmVkIiwiYXNycy5zLmF1dCI6Ik15QXV0aCIsImFzcnMucy5kZXJyb3IiOiJUcnVlIiwiYXNycy5zLm50IjoibXluYW1lIiwiYXNycy5zLnJ0IjoibXlyb2xlIiwiYXNycy5zLnR0bCI6IjEwIiwiYXNycy5zLmh0dCI6IjUiLCJhc3JzLnMuY29hZSI6InRydWUiLCJhc3JzLnMuYWVvIjoiMTgwMDAwMDYwMCIsIm5hbWVpZCI6WyJib2IiLCJhbCJdLCJ1bmlxdWVfbmFtZSI6ImJvYiBOYW1lIiwicm9sZSI6WyJyMSIsInIyIiwiYSIsImIiXSwiZW1haWwiOiJib2JAZXhhbXBsZS5jb20iLCJzdWIiOiJzdWItYm9iIiwiYXNycy51LmF1ZCI6Im9yaWctYXVkIiwiYXNycy51LmlzcyI6Im9yaWctaXNzIiwiYXNycy51LmV4cCI6IjE5MDAwMDAwMDAiLCJuIjo0MiwiZmxhZyI6dHJ1ZSwiaiI6eyJhIjoxfSwiY3VzdG9tIjoidjEiLCJuYmYiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDAwMDEyMCwiaWF0IjoxODAwMDAwMDAwLCJpc3MiOiJhenVyZS1zaWduYWxyIiwiYXVkIjoiaHR0cDovL2xvY2FsaG9zdC9jbGllbnQvP2h1Yj1hcHAxX2NoYXQifQ.3SuyzUBewqrB4g8bYYGgX2DZ034krnmz1lA3jjVUM5FJ0cW_Q_5PGJXTFPY9zNisK9HRkCruf09vpTqLzAcQ4w",
    side: "client",
    hub: "app1_chat",
    claims: &[
        ("asrs.s.uid", "bob"),
        ("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef"),
        ("asrs.s.ssticky", "Required"),
        ("asrs.s.aut", "MyAuth"),
        ("asrs.s.derror", "True"),
        ("asrs.s.nt", "myname"),
        ("asrs.s.rt", "myrole"),
        ("asrs.s.ttl", "10"),
        ("asrs.s.htt", "5"),
        ("asrs.s.coae", "true"),
        ("asrs.s.aeo", "1800000600"),
        ("nameid", "bob"),
        ("nameid", "al"),
        ("unique_name", "bob Name"),
        ("role", "r1"),
        ("role", "r2"),
        ("role", "a"),
        ("role", "b"),
        ("email", "bob@example.com"),
        ("sub", "sub-bob"),
        ("asrs.u.aud", "orig-aud"),
        ("asrs.u.iss", "orig-iss"),
        ("asrs.u.exp", "1900000000"),
        ("n", "42"),
        ("flag", "true"),
        ("j", r#"{"a":1}"#),
        ("custom", "v1"),
        ("nbf", "1800000000"),
        ("exp", "1800000120"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=app1_chat"),
    ],
};

/// Sticky if possible.
pub(super) const STICKY_PREFERRED: Golden = Golden {
    token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMuc24iOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImFzcnMucy5zc3RpY2t5IjoiUHJlZmVycmVkIiwiYXNycy5zLmRlcnJvciI6IlRydWUiLCJuYmYiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDAwMzYwMCwiaWF0IjoxODAwMDAwMDAwLCJpc3MiOiJhenVyZS1zaWduYWxyIiwiYXVkIjoiaHR0cDovL2xvY2FsaG9zdC9jbGllbnQvP2h1Yj1jaGF0In0.n6_PF8rdFNf7KmiLMTEIbJjp-unVsSyZjKV_MpEg1Js",
    side: "client",
    hub: "chat",
    claims: &[
        ("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef"),
        ("asrs.s.ssticky", "Preferred"),
        ("asrs.s.derror", "True"),
        ("nbf", "1800000000"),
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=chat"),
    ],
};

/// Another hub.
pub(super) const SECOND_HUB: Golden = Golden {
    token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJhc3JzLnMuc24iOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsImFzcnMucy5zc3RpY2t5IjoiUHJlZmVycmVkIiwiYXNycy5zLmRlcnJvciI6IlRydWUiLCJuYW1laWQiOiJ4IiwiY3VzdG9tIjoidjEiLCJyb2xlIjpbImEiLCJiIl0sIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAzNjAwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L2NsaWVudC8_aHViPXNlY29uZCJ9.e3fH2k0DhCc5W10s2jey9AiUTqLJfyOxL_3-VrcTnes",
    side: "client",
    hub: "second",
    claims: &[
        ("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef"),
        ("asrs.s.ssticky", "Preferred"),
        ("asrs.s.derror", "True"),
        ("nameid", "x"),
        ("custom", "v1"),
        ("role", "a"),
        ("role", "b"),
        ("nbf", "1800000000"),
        ("exp", "1800003600"),
        ("iat", "1800000000"),
        ("iss", "azure-signalr"),
        ("aud", "http://localhost/client/?hub=second"),
    ],
};
