//! The list of operations of accounts.

use opsroom_core::{Effect, Operation, Role};

use super::{Accounts, admin, login, own, tokens};

pub(super) fn all(accounts: &Accounts) -> Vec<Operation> {
    macro_rules! operation {
        ($name:literal, $effect:ident, $route:literal, $run:path) => {
            Operation::new("identity", $name, Effect::$effect, $route, accounts, $run)
        };
    }
    let mut all = vec![
        operation!("signup", Write, "POST /auth/signup", admin::signup).open(),
        operation!("set_up", Write, "POST /auth/setup", admin::set_up).open(),
        operation!("login", Reveal, "POST /auth/login", login::login).open(),
        operation!("request_password_reset", Write, "POST /auth/password/forgotten", tokens::request_reset)
            .open(),
        operation!("reset_password", Write, "POST /auth/password/reset", tokens::reset).open(),
        operation!("verify_email", Write, "POST /auth/email/verify", tokens::verify).open(),
    ];
    // Everybody with an account, of whatever rung, has these about themselves.
    let own = vec![
        operation!("get_profile", Read, "GET /auth/profile", own::profile),
        operation!("update_profile", Write, "PUT /auth/profile", own::update),
        operation!("delete_profile", Destroy, "POST /auth/delete", own::delete),
        operation!("change_password", Write, "POST /auth/password", own::change_password),
        operation!("change_email", Write, "POST /auth/email", own::change_email),
        operation!("enable_two_factor", Reveal, "POST /auth/two-factor", own::enable_two_factor),
        operation!("confirm_two_factor", Reveal, "POST /auth/two-factor/confirm", own::confirm_two_factor),
        operation!("disable_two_factor", Write, "POST /auth/two-factor/disable", own::disable_two_factor),
        operation!("logout", Write, "POST /auth/logout", own::logout),
        operation!("list_sessions", Read, "GET /auth/sessions", own::sessions),
        operation!("end_session", Write, "DELETE /auth/sessions/{id}", own::end_session),
    ];
    all.extend(own.into_iter().map(|operation| operation.role(Role::Viewer)));
    let others = vec![
        operation!("create_user", Write, "POST /users", admin::create),
        operation!("list_users", Read, "GET /users", admin::list),
        operation!("get_user", Read, "GET /users/{id}", admin::get),
        operation!("update_user", Write, "PUT /users/{id}", admin::update),
        operation!("delete_user", Destroy, "DELETE /users/{id}", admin::delete),
    ];
    all.extend(others.into_iter().map(|operation| operation.role(Role::Administrator)));
    all
}
