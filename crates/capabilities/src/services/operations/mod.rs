//! The operations of services.

mod answers;
mod create;
mod lifecycle;
mod login;
mod look;
mod network;
mod registry;
mod update;

use opsroom_core::{Effect, Operation, Role};

use super::Services;

/// Every operation of this folder.
pub fn all(services: &Services) -> Vec<Operation> {
    let mut all = vec![
        services
            .operation("create_service", Effect::Write, "POST /services", create::create_service)
            .success(201)
            .enveloped(),
        services.operation("list_services", Effect::Read, "GET /services", look::list_services).enveloped(),
        services.operation("get_service", Effect::Read, "GET /services/{id}", look::get_service).enveloped(),
        services
            .operation("update_service", Effect::Write, "PUT /services/{id}", update::update_service)
            .idempotent()
            .enveloped(),
        services
            .operation("delete_service", Effect::Destroy, "DELETE /services/{id}", lifecycle::delete_service)
            .idempotent()
            .enveloped(),
        services
            .operation("start_service", Effect::Write, "POST /services/{id}/start", lifecycle::start_service)
            .idempotent()
            .success(202)
            .enveloped(),
        services
            .operation("stop_service", Effect::Write, "POST /services/{id}/stop", lifecycle::stop_service)
            .idempotent()
            .success(202)
            .enveloped(),
        services
            .operation(
                "restart_service",
                Effect::Write,
                "POST /services/{id}/restart",
                lifecycle::restart_service,
            )
            .success(202)
            .enveloped(),
        services
            .operation(
                "get_service_health",
                Effect::Read,
                "GET /services/{id}/health",
                look::get_service_health,
            )
            .enveloped(),
        services
            .operation("get_service_logs", Effect::Read, "GET /services/{id}/logs", look::get_service_logs)
            .enveloped(),
        services
            .operation("get_service_stats", Effect::Read, "GET /services/{id}/stats", look::get_service_stats)
            .enveloped(),
        services
            .operation(
                "connect_service",
                Effect::Write,
                "POST /services/{id}/connect",
                login::connect_service,
            )
            .enveloped(),
        services
            .operation(
                "disconnect_service",
                Effect::Write,
                "POST /services/{id}/disconnect",
                login::disconnect_service,
            )
            .idempotent()
            .enveloped(),
        services
            .operation("create_network", Effect::Write, "POST /networks", network::create_network)
            .role(Role::Administrator)
            .success(201),
        services.operation("list_networks", Effect::Read, "GET /networks", network::list_networks),
        services
            .operation("delete_network", Effect::Destroy, "DELETE /networks/{name}", network::delete_network)
            .idempotent(),
    ];
    all.extend(registry::all(services));
    all.extend(super::registry_api::all(services));
    all
}
