#!/bin/bash
# boot.sh DIR: starts a systemd of its own, with the units in DIR/units, the programs in DIR/bin as /usr/local/bin and
# the files in DIR/etc as /etc/bearerd, and runs DIR/steps.sh there, whose output is DIR/output. The machine keeps its
# files, ports, processes and hostname: all of it is in namespaces, and ends with the steps. Needs root.
set -euo pipefail
dir=$1

if [ "${2:-}" = outside ]; then # in a mount namespace; for a branch of the cgroup tree
  mkdir "$dir/cgroup"
  mount -t cgroup2 cgroup2 "$dir/cgroup"
  branch=$dir/cgroup/bearerd-systemd-$$
  mkdir "$branch"
  echo $$ >"$branch/cgroup.procs"
  timeout -k 5 240 unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup "$0" "$dir" inside >"$dir/boot" 2>&1 || true
  echo $$ >"$dir/cgroup/cgroup.procs"
  until find "$branch" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep .1; done # its processes may still be ending
  exit
elif [ "${2:-}" != inside ]; then
  exec unshare --mount "$0" "$dir" outside
fi

ip link set lo up
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mkdir "$dir/layers"
mount -t tmpfs tmpfs "$dir/layers"
mkdir "$dir/layers/upper" "$dir/layers/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/layers/upper,workdir=$dir/layers/work" overlay /etc
mkdir -p /etc/bearerd
cp "$dir"/etc/* /etc/bearerd
chmod 600 /etc/bearerd/*
: >/etc/fstab
# Nothing that the machine's own systemd starts.
for wants in /etc/systemd/system /usr/lib/systemd/system/{sysinit,sockets,timers,multi-user}.target.wants; do
  mkdir -p "$wants"
  mount -t tmpfs tmpfs "$wants"
done
cp "$dir"/units/* /etc/systemd/system
cat >/etc/systemd/system/querysim.service <<'UNIT'
[Service]
ExecStart=/usr/local/bin/querysim
UNIT
cat >/etc/systemd/system/steps.service <<UNIT
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/bash $dir/steps.sh
StandardOutput=file:$dir/output
StandardError=file:$dir/output
ExecStopPost=/bin/systemctl exit --force --force
UNIT
cat >/etc/systemd/system/test.target <<'UNIT'
[Unit]
Wants=systemd-journald.service querysim.service steps.service
UNIT
mkdir -p /usr/local/bin
mount --bind "$dir/bin" /usr/local/bin
mkdir -p /usr/local/lib
mount -t tmpfs tmpfs /usr/local/lib # for what steps.sh installs
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared / # or credentials are mounted where nobody sees them
exec env -i container=other PATH="$PATH" /usr/lib/systemd/systemd --system --unit=test.target
