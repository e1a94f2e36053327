"""A login server made of django-oauth-toolkit. ACCOUNT has the account as JSON."""

import json
import os

import django
from django.conf import settings

account = json.loads(os.environ["ACCOUNT"])

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "oauth2_provider",
    ],
    AUTH_USER_MODEL="auth.User",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(os.environ["DIR"], "django.db"),
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    OAUTH2_PROVIDER={"SCOPES": {"metrics": "what the account may read"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a fast one
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import path
from oauth2_provider.models import Application
from oauth2_provider.views import TokenView

call_command("migrate", verbosity=0)
for name, active in (account["username"], True), (account["locked"], False):
    user = User(username=name, is_active=active)
    user.set_password(account["password"])
    user.save()
for client_id, grant in (
    (account["client_id"], Application.GRANT_CLIENT_CREDENTIALS),
    (account["other_client"], Application.GRANT_PASSWORD),
):
    Application.objects.create(
        client_id=client_id,
        client_secret=account["client_secret"],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=grant,
    )

urlpatterns = [path("token", TokenView.as_view())]
app = get_wsgi_application()
