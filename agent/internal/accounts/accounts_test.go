package accounts_test

import (
	"strings"
	"testing"

	"edeploy/agent/internal/accounts"

	"github.com/google/go-cmp/cmp"
)

const (
	passwd  = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n"
	group   = "root:x:0:\nsudo:x:27:\n"
	shadow  = "root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n"
	gshadow = "root:*::\nsudo:*::\n"
)

var base = accounts.Set{"etc/passwd": passwd, "etc/group": group, "etc/shadow": shadow, "etc/gshadow": gshadow, "etc/subuid": ""}

// with is base with other files.
func with(changes ...string) accounts.Set {
	set := accounts.Set{}
	for path, text := range base {
		set[path] = text
	}
	for i := 0; i < len(changes); i += 2 {
		set[changes[i]] = changes[i+1]
	}
	return set
}

func TestMerge(t *testing.T) {
	// What useradd -m bob; adduser bob sudo; passwd root; chsh do.
	machine := with("etc/passwd", strings.Replace(passwd, "/bin/bash", "/bin/sh", 1)+"bob:x:1000:1000::/home/bob:/bin/bash\n",
		"etc/group", "root:x:0:\nsudo:x:27:bob\nbob:x:1000:\n", "etc/shadow", strings.Replace(shadow, "root:*:19000", "root:$y$secret:20000", 1)+"bob:!:20000:0:99999:7:::\n",
		"etc/gshadow", "root:*::\nsudo:*::bob\nbob:!::\n", "etc/subuid", "bob:100000:65536\n")
	// A package brings a user, another one goes, root is renamed and has a new line in shadow.
	tree := with("etc/passwd", "root:x:0:0:Administrator:/root:/bin/bash\nmysql:x:450:450::/nonexistent:/bin/false\n",
		"etc/group", "root:x:0:\nsudo:x:27:ops\nmysql:x:450:\n", "etc/shadow", "root:*:19500:0:99999:7:::\nmysql:!:19500::::::\n", "etc/gshadow", "root:*::\nsudo:*::ops\nmysql:!::\n")
	for name, tt := range map[string]struct{ base, machine, tree, want accounts.Set }{
		"nothing":        {base, base, base, base},
		"tree alone":     {base, base, tree, tree},
		"machine alone":  {base, machine, base, machine},
		"machine has it": {base, tree, tree, tree},
		"both": {base, machine, tree, with(
			"etc/passwd", "root:x:0:0:Administrator:/root:/bin/sh\nmysql:x:450:450::/nonexistent:/bin/false\nbob:x:1000:1000::/home/bob:/bin/bash\n",
			"etc/group", "root:x:0:\nsudo:x:27:bob,ops\nmysql:x:450:\nbob:x:1000:\n",
			"etc/shadow", "root:$y$secret:20000:0:99999:7:::\nmysql:!:19500::::::\nbob:!:20000:0:99999:7:::\n",
			"etc/gshadow", "root:*::\nsudo:*::bob,ops\nmysql:!::\nbob:!::\n", "etc/subuid", "bob:100000:65536\n")},
		"old tree unknown": {nil, machine, tree, with(
			"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmysql:x:450:450::/nonexistent:/bin/false\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nbob:x:1000:1000::/home/bob:/bin/bash\n",
			"etc/group", "root:x:0:\nsudo:x:27:bob\nmysql:x:450:\nbob:x:1000:\n",
			"etc/shadow", "root:$y$secret:20000:0:99999:7:::\nmysql:!:19500::::::\nwww-data:*:19000:0:99999:7:::\nbob:!:20000:0:99999:7:::\n",
			"etc/gshadow", "root:*::\nsudo:*::bob\nmysql:!::\nbob:!::\n", "etc/subuid", "bob:100000:65536\n")},
		"taken away on the machine": {accounts.Set{"etc/passwd": passwd}, accounts.Set{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"}, accounts.Set{"etc/passwd": passwd},
			accounts.Set{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"}},
		"out of a group": {accounts.Set{"etc/group": "a:x:1:x,y\n"}, accounts.Set{"etc/group": "a:x:1:x,y,z\n"}, accounts.Set{"etc/group": "a:x:1:y\n"}, accounts.Set{"etc/group": "a:x:1:y,z\n"}},
		"odd lines": {nil, accounts.Set{"etc/passwd": "root:x:0:0:::\n# mine\n\n+::::::"}, accounts.Set{"etc/passwd": "root:x:0:0:::\n"},
			accounts.Set{"etc/passwd": "root:x:0:0:::\n# mine\n\n+::::::"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := accounts.Merge(tt.base, tt.machine, tt.tree)
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	if diff := cmp.Diff([]string{"bob"}, accounts.Own("etc/passwd", machine, base)); diff != "" {
		t.Errorf("own (-want +got):\n%s", diff)
	}
}

func TestCollisions(t *testing.T) {
	for name, tt := range map[string]struct {
		base, machine, tree accounts.Set
		want                string
	}{
		"uid": {base, with("etc/passwd", passwd+"foo:x:105:105:::\n"), with("etc/passwd", passwd+"_chrony:x:105:106:::\n"),
			"etc/passwd: uid 105 is that of foo on this machine, and of _chrony in the new version: give foo another one (usermod or groupmod, and chown of its files), then run this again"},
		"gid": {base, with("etc/group", group+"foo:x:105:\n"), with("etc/group", group+"bar:x:105:\n"),
			"etc/group: gid 105 is that of foo on this machine, and of bar in the new version: give foo another one (usermod or groupmod, and chown of its files), then run this again"},
		"one name, two ids": {base, with("etc/passwd", passwd+"mysql:x:101:101:::\n"), with("etc/passwd", passwd+"mysql:x:450:450:::\n"),
			"etc/passwd: mysql has uid 101 on this machine and 450 in the new version: give it that one here (usermod or groupmod, and chown of its files), then run this again"},
		"machine's choice":         {base, with("etc/passwd", strings.Replace(passwd, ":33:33", ":34:33", 1)), base, ""},
		"two names on the machine": {base, with("etc/passwd", passwd+"toor:x:0:0:::\n"), with("etc/passwd", passwd+"a:x:1:1:::\n"), ""},
		"two names in the tree":    {base, base, with("etc/passwd", passwd+"toor:x:0:0:::\n"), ""},
		"subuid": {base, with("etc/subuid", "bob:100000:65536\n"), with("etc/subuid", "ann:165535:65536\n"),
			"etc/subuid: bob:100000:65536 and ann:165535:65536 overlap, one of this machine and one of the new version: change this machine's, then run this again"},
		"subuid of one side": {base, with("etc/subuid", "bob:1:10\nann:5:10\n"), base, ""},
	} {
		_, err := accounts.Merge(tt.base, tt.machine, tt.tree)
		if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
			t.Errorf("%s: %v\nwant %s", name, err, tt.want)
		}
	}
}
