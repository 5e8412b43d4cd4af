"""Addresses of the pages about models, monitoring, alerts and administration."""

from __future__ import annotations

from django.urls import URLPattern, path

from console import alert, alerts, audit, compare, feature, keys, model, models, monitoring, people, register, settings_page, sign_in, system, version

urlpatterns: list[URLPattern] = [
    path("sign-in/", sign_in.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", sign_in.sign_in_link, name="sign-in-link"),
    path("sign-out/", sign_in.sign_out, name="sign-out"),
    path("password/", sign_in.password, name="password"),
    path("models/", models.models, name="models"),
    path("models/register/", register.register, name="register"),
    path("models/<str:name>/", model.model, name="model"),
    path("models/<str:name>/edit/", model.edit, name="model-edit"),
    path("models/<str:name>/archive/", model.archive, name="model-archive"),
    path("models/<str:name>/delete/", model.delete, name="model-delete"),
    path("models/<str:name>/aliases/", model.aliases, name="model-aliases"),
    path("models/<str:name>/compare/", compare.compare, name="compare"),
    path("models/<str:name>/<int:number>/", version.version, name="version"),
    path("models/<str:name>/<int:number>/checklist/", version.checklist, name="version-checklist"),
    path("models/<str:name>/<int:number>/retry/", version.retry, name="version-retry"),
    path("models/<str:name>/<int:number>/edit/", version.edit, name="version-edit"),
    path("models/<str:name>/<int:number>/archive/", version.archive, name="version-archive"),
    path("models/<str:name>/<int:number>/delete/", version.delete, name="version-delete"),
    path("models/<str:name>/<int:number>/download/<str:what>/", version.download_file, name="version-download"),
    path("monitoring/", monitoring.overview, name="monitoring"),
    path("monitoring/<str:name>/", monitoring.endpoint, name="monitoring-endpoint"),
    path("monitoring/<str:name>/evaluate/", monitoring.evaluate, name="monitoring-evaluate"),
    path("monitoring/<str:name>/performance/", monitoring.performance_series, name="monitoring-performance"),
    path("monitoring/<str:name>/limits/", monitoring.rules, name="monitoring-rules"),
    path("monitoring/<str:name>/features/<path:key>/series/<str:chart>/", feature.series, name="feature-series"),
    path("monitoring/<str:name>/features/<path:key>/mute/", feature.mute, name="feature-mute"),
    path("monitoring/<str:name>/features/<path:key>/", feature.feature, name="feature"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<int:number>/", alert.alert, name="alert"),
    path("alerts/<int:number>/series/", alert.series, name="alert-series"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export/", audit.export, name="audit-export"),
    path("keys/", keys.keys, name="keys"),
    path("keys/<str:key_id>/revoke/", keys.key_revoke, name="key-revoke"),
    path("people/", people.people, name="people"),
    path("people/<str:username>/", people.person, name="person"),
    path("system/", system.system, name="system"),
    path("settings/", settings_page.settings_page, name="settings"),
]
