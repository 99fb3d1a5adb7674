# Helpers of configuration scripts. The lines above set the variables.
run() {
	echo "+ $*" >&2
	/bin/sh -c "$*" </dev/null || {
		set -- $? "$*"
		echo "$2: exit status $1" >&2
		exit "$1"
	}
}

# raid1 ARRAY MEMBER MEMBER... makes a RAID 1 array.
raid1() {
	[ $# -ge 3 ] || {
		echo "raid1: want array member member ..." >&2
		exit 2
	}
	set -- "$1" "$(shift && echo "$*")" $(($# - 1))
	run "wipefs -q -a $2 && mdadm --create $1 --run --quiet --homehost=any --level=1 --raid-devices=$3 $2 && wipefs -q -a $1"
}

set_role() {
	[ $# -eq 3 ] || {
		echo "set_role: want role version disk" >&2
		exit 2
	}
	printf 'ROLE=%s\nVERS=%s\nDISK=%s\nPROFILE=%s\n' "$1" "$2" "$3" "$EDEPLOY_PROFILE" >>"$EDEPLOY_ROOT/vars"
}

# config NAME [MODE] writes its standard input to a file that is laid over the tree.
config() {
	mkdir -p "$(dirname "$EDEPLOY_ROOT/post_rsync$1")" &&
		cat >"$EDEPLOY_ROOT/post_rsync$1" && chmod "${2:-0644}" "$EDEPLOY_ROOT/post_rsync$1" || exit 1
}

# wipe POLICY was read by the agent before the script began.
wipe() { :; }

grub_options() {
	printf '%s\n' "$*" >"$EDEPLOY_ROOT/grub_options"
}

. "$EDEPLOY_SCRIPT"
