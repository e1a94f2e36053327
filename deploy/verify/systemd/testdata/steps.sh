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
