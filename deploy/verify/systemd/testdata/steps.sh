# What is done with the service, each step a line of output. boot.sh runs it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
names=/cpmm/api/v1/orgs/42/metrics/names
status() { curl -s -g -o /dev/null -w '%{http_code}' "$1"; }
until_status() { for _ in {1..300}; do [ "$(status "$1")" = "$2" ] && break; sleep .1; done; echo "$2: $(status "$1")"; }
show() { systemctl show -P "$1" bearerd; }

systemctl start bearerd.socket bearerd-admin.socket
echo "by a connection alone: $(status http://localhost:8080$names)"
echo "over IPv6: $(status http://[::1]:8080$names) $(status http://[::1]:9180/readyz)"
uid=$(awk '/^Uid:/ {print $2}' /proc/"$(show MainPID)"/status)
[ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] && echo "a dynamic user"
awk '/^(CapBnd|CapEff|NoNewPrivs|Seccomp):/ {print $1, $2}' /proc/"$(show MainPID)"/status
for metric in process_start_time_seconds process_resident_memory_bytes process_open_fds; do
  curl -s http://localhost:9180/metrics | grep -q "^$metric " && echo "has $metric"
done

systemctl reload bearerd
for _ in {1..100}; do curl -s http://localhost:9180/metrics | grep -q '^bearerd_token_generation 2$' && echo "reloaded: a login" && break; sleep .1; done

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

echo BEARERD_LISTN=x >>/etc/bearerd/env
systemctl restart bearerd 2>/dev/null
for _ in {1..100}; do [ "$(show ActiveState)" = failed ] && break; sleep .1; done
echo "bad settings: $(show ActiveState) $(show ExecMainStatus), restarts: $(show NRestarts)"
[ -n "$(journalctl -u bearerd | grep BEARERD_LISTN)" ] && echo "the journal names them"
