"""A login server as FastAPI's tutorial has it: OAuth2PasswordRequestForm, and a
refusal that is no OAuth error. ACCOUNT has the account as JSON."""

import json
import os
import secrets

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm

account = json.loads(os.environ["ACCOUNT"])
app = FastAPI()


@app.post("/token")
async def token(form: OAuth2PasswordRequestForm = Depends()):
    if form.username == account["locked"]:
        raise HTTPException(status_code=400, detail="Inactive user")
    if form.username != account["username"] or form.password != account["password"]:
        raise HTTPException(status_code=400, detail="Incorrect username or password")
    return {"access_token": secrets.token_urlsafe(32), "token_type": "bearer"}
