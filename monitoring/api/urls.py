"""Addresses of the monitoring API, under ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from monitoring.api import views

urlpatterns = [
    path("endpoints/<str:name>/drift/", views.DriftView.as_view(), name="api-drift"),
    path("endpoints/<str:name>/drift/<path:feature>/", views.FeatureView.as_view(), name="api-drift-feature"),
    path("endpoints/<str:name>/quality/", views.QualityView.as_view(), name="api-quality"),
    path("endpoints/<str:name>/performance/", views.PerformanceView.as_view(), name="api-performance"),
    path("endpoints/<str:name>/evaluate/", views.EvaluateView.as_view(), name="api-evaluate"),
    path("endpoints/<str:name>/rule/", views.RuleView.as_view(), name="api-rule"),
    path("endpoints/<str:name>/reference/", views.ReferenceView.as_view(), name="api-reference"),
    path("outcomes/", views.OutcomesView.as_view(), name="api-outcomes"),
    path("alerts/", views.AlertsView.as_view(), name="api-alerts"),
    path("alerts/<int:number>/", views.AlertView.as_view(), name="api-alert"),
    path("alerts/<int:number>/acknowledge/", views.AcknowledgeView.as_view(), name="api-alert-acknowledge"),
    path("alerts/<int:number>/resolve/", views.ResolveView.as_view(), name="api-alert-resolve"),
    path("alerts/<int:number>/notes/", views.NotesView.as_view(), name="api-alert-notes"),
]
