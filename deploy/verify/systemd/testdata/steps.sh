# What is done with the service, each step a line of output. boot.sh runs it, and ends it where a step waits for ever.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
names=/cpmm/api/v1/orgs/42/metrics/names
status() { curl -s -g -o /dev/null -w '%{http_code}' "$1"; }
until_status() { until [ "$(status "$1")" = "$2" ]; do sleep .1; done; echo "$2"; }
show() { systemctl show -P "$1" bearerd; }

until curl -s -o /dev/null http://localhost:8083/stats; do sleep .1; done # querysim

systemctl enable --now --quiet bearerd.socket bearerd-admin.socket
echo "by a connection alone: $(status http://localhost:8080$names)"
echo "over IPv6: $(status http://[::1]:8080$names) $(status http://[::1]:9180/readyz)"
uid=$(awk '/^Uid:/ {print $2}' /proc/"$(show MainPID)"/status)
[ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] && echo "a dynamic user"
awk '/^(CapBnd|CapEff|NoNewPrivs|Seccomp):/ {print $1, $2}' /proc/"$(show MainPID)"/status
for metric in process_start_time_seconds process_resident_memory_bytes process_open_fds; do
  curl -s http://localhost:9180/metrics | grep -q "^$metric " && echo "has $metric"
done

systemctl reload bearerd
until curl -s http://localhost:9180/metrics | grep -q '^bearerd_token_generation 2$'; do sleep .1; done; echo "reloaded: a login"

touch /run/asking
while [ -e /run/asking ]; do status http://localhost:8080$names; echo; done >/run/statuses &
systemctl restart bearerd
rm /run/asking
wait
echo "all the while of a restart: $(sort -u /run/statuses | tr '\n' ' ')"

printf wrong >/etc/bearerd/password
systemctl restart bearerd
echo "a wrong password"; until_status http://localhost:9180/readyz 503
echo "$(show ActiveState), restarts: $(show NRestarts)"
printf 'not-a-real-password\n' >/etc/bearerd/password
systemctl restart bearerd
echo "the right one"; until_status http://localhost:9180/readyz 200

systemctl stop bearerd.socket bearerd-admin.socket bearerd
echo "stopped: $(show Result) $(show ExecMainStatus)"
systemctl start bearerd
echo "without the sockets"; until_status http://localhost:8080$names 200

systemctl stop bearerd
systemctl reset-failed bearerd # or it has been started too often
systemctl start bearerd.socket bearerd-admin.socket bearerd
echo BEARERD_LISTN=x >>/etc/bearerd/env
systemctl restart bearerd 2>/dev/null
until [ "$(show ActiveState)" = failed ]; do sleep .1; done
echo "bad settings: $(show ActiveState) $(show ExecMainStatus), restarts: $(show NRestarts)"
until journalctl -u bearerd | grep -q BEARERD_LISTN; do sleep .1; done; echo "the journal names them"
until [ "$(systemctl is-active bearerd.socket)" = failed ]; do curl -s -m .1 http://localhost:8080; done # each a start
sed -i '$d' /etc/bearerd/env
systemctl reset-failed 'bearerd*'
systemctl start bearerd.socket bearerd-admin.socket bearerd
echo "mended"; until_status http://localhost:8080$names 200

crashed=$(show MainPID)
systemctl kill --signal=QUIT bearerd # which Go ends with what a panic ends with
until [ "$(show MainPID)" != "$crashed" ]; do sleep .1; done
echo "a crash: $(journalctl -u bearerd | sed -n 's/.*Main process exited, code=exited, status=2.*/2/p')"
until_status http://localhost:8080$names 200
echo "restarts: $(show NRestarts)"

# bearerd service, of the machine: from nothing and back to that.
systemctl stop bearerd.socket bearerd-admin.socket bearerd
systemctl reset-failed 'bearerd*'
mkdir /run/mine
printf 'not-a-real-password\n' >/run/mine/password
{ grep -v PASSWORD /etc/bearerd/env; echo BEARERD_PASSWORD_FILE=/run/mine/password; } >/run/mine/env
before() { find /etc/systemd/system /etc/gateway /usr/local/lib/bearerd /var/lib/gateway /var/lib/private /run/home -type f -o -type l -o -name gateway 2>/dev/null | sort; }
before >/run/before
/usr/local/bin/bearerd service install -system -env-file /run/mine/env >/dev/null 2>&1; echo "a name that is taken: $?"
service() { /usr/local/bin/bearerd service "$1" -system -name gateway "${@:2}" >/run/said 2>&1; echo "service $1: $? $(tail -n1 /run/said | tr "\140" "'" | cut -c1-22)"; }
service install -env-file /run/mine/env
echo "asked: $(status http://localhost:8080$names)"
rm -r /run/mine/password
systemctl restart gateway
until_status http://localhost:9180/readyz 200
stat -c '%a %U' /etc/gateway /etc/gateway/env /etc/gateway/credentials/password
service status
service stop
service status
service start
echo BEARERD_LISTN=x >/run/mine/bad
service install -env-file /run/mine/bad
service status
printf 'not-a-real-password\n' >/run/mine/password
{ grep -v USERNAME /run/mine/env; echo BEARERD_USERNAME=nobody@example.com; } >/run/mine/other
service install -env-file /run/mine/other
until_status http://localhost:9180/readyz 200
echo "as before: $(status http://localhost:8080$names)"
rm /run/mine/password
touch /var/lib/private/gateway/logins.json # as a refused login leaves it
service uninstall
before | diff /run/before - && echo "nothing is left"
service uninstall

# And of a user, whose systemd is started here by hand.
mkdir -p /run/user/0 /run/home/.config
export XDG_RUNTIME_DIR=/run/user/0 HOME=/run/home XDG_CONFIG_HOME=/run/home/.config
systemd-run --quiet --unit=manager -p Delegate=yes -E XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR -E HOME=$HOME /usr/lib/systemd/systemd --user
until systemctl --user show-environment >/dev/null 2>&1; do sleep .1; done
printf 'not-a-real-password\n' >/run/mine/password
service() { /usr/local/bin/bearerd service "$1" "${@:2}" >/run/said 2>&1; echo "user's service $1: $? $(tail -n1 /run/said | tr "\140" "'" | cut -c1-22)"; }
SUDO_USER=me service install -env-file /run/mine/env
service install -env-file /run/mine/env
echo "asked: $(status http://localhost:8080$names)"
service install # again, with what it has
service status
service stop
service status
service uninstall
before | diff /run/before - && echo "nothing is left"
