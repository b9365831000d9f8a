"""The addresses of the site."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.documents),
    path("accounts/login/", LoginView.as_view(template_name="office/login.html")),
    path("accounts/logout/", LogoutView.as_view(next_page="/accounts/login/")),
    path("upload", views.upload),
    path("files/<int:key>", views.download),
    path("preview", views.preview),
    path("send", views.send),
    path("report", views.report),
    path("charsets/<str:charset>", views.in_charset),
    path("favicon.ico", views.nothing),
    path("admin/", admin.site.urls),
]
