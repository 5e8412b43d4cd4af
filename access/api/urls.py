"""Addresses of the access API, under ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from access.api import views

urlpatterns = [
    path("me/", views.MeView.as_view(), name="api-me"),
    path("keys/", views.KeysView.as_view(), name="api-keys"),
    path("keys/<str:key_id>/", views.KeyView.as_view(), name="api-key"),
    path("people/", views.PeopleView.as_view(), name="api-people"),
    path("people/<str:username>/", views.PersonView.as_view(), name="api-person"),
    path("people/<str:username>/sign-in-link/", views.SignInLinkView.as_view(), name="api-person-sign-in-link"),
    path("people/<str:username>/grants/", views.GrantsView.as_view(), name="api-person-grants"),
    path("people/<str:username>/grants/<str:subject_kind>/<str:subject_name>/", views.GrantView.as_view(), name="api-person-grant"),
    path("audit/", views.AuditView.as_view(), name="api-audit"),
]
