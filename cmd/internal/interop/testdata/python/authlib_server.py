"""A login server made of Authlib and Flask. ACCOUNT has the account as JSON."""

import json
import os

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants, list_to_scope, scope_to_list
from flask import Flask

account = json.loads(os.environ["ACCOUNT"])


class Client(ClientMixin):
    def get_client_id(self):
        return account["client_id"]

    def get_allowed_scope(self, scope):
        return list_to_scope([s for s in scope_to_list(scope or "") if s == "metrics"])

    def check_client_secret(self, secret):
        return secret == account["client_secret"]

    def check_endpoint_auth_method(self, method, endpoint):
        return method in ("client_secret_basic", "client_secret_post")

    def check_grant_type(self, grant_type):
        return grant_type in ("password", "client_credentials")


class Password(grants.ResourceOwnerPasswordCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

    def authenticate_user(self, username, password):
        # As its documentation does it, None for one who may not log in.
        if username == account["username"] and password == account["password"]:
            return username


class ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]


app = Flask(__name__)
app.config["OAUTH2_SCOPES_SUPPORTED"] = ["metrics"]
server = AuthorizationServer(
    app,
    query_client=lambda client_id: Client() if client_id == account["client_id"] else None,
    save_token=lambda token, request: None,
)
server.register_grant(Password)
server.register_grant(ClientCredentials)


@app.route("/token", methods=["POST"])
def token():
    return server.create_token_response()
