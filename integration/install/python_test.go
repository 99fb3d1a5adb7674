package install

import (
	"regexp"
	"testing"
	"time"

	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// python is a configuration script for Python itself: imports, a class, and an
// error that it lives with.
func python(r *racktest.Rack) string {
	return `#!/usr/bin/python3
import json
import subprocess
import socket


class Disk(object):
    def __init__(self, name):
        self.path = '/dev/' + name

    def size(self):
        return int(subprocess.check_output(['blockdev', '--getsize64', self.path]))


disk = Disk(var['disk'])
try:
    Disk('nosuch').size()
except subprocess.CalledProcessError as error:
    print('no second disk: %s' % error)
run('parted -s %s mklabel msdos mkpart primary ext2 1MiB 100%%' % disk.path)
run('mkfs.ext4 -q %s1; mkdir -p /chroot; mount %s1 /chroot' % (disk.path, disk.path))
with config('/etc/edeploy-python.json') as f:
    json.dump({'size': disk.size(), 'name': re.sub('[0-9]+$', '', var['hostname']), 'address': socket.inet_ntoa(socket.inet_aton(var['ip']))}, f, sort_keys=True)
` + rack.ByArchive + rack.Settings(r.Key) + `
set_role('` + racktest.Base.Role + `', '` + racktest.Base.Version + `', disk.path)
`
}

// A script for Python installs a machine; Python comes from the appliance, and
// stays away from the installed system.
func TestPython(t *testing.T) {
	long(t)
	r := racktest.Start(t)
	files := rack.VM(racktest.Base.Role, racktest.Base.Version, r.Key)
	files["vm.configure"] = python(r)
	r.Configure(files)
	vm := r.Power(rack.Blank{Name: "node", Disks: []int64{3e9}})
	r.Expect(vm, 6*time.Minute, `configure: add-on python3: \d+ MB, from http://10\.0\.3\.1:80/boot/file/addons/python3\.edeploy`)
	r.Expect(vm, 2*time.Minute, `no second disk: Command '\['blockdev'`)
	r.AwaitState(vm, "installed", 8*time.Minute)
	r.Expect(vm, 3*time.Minute, `node10 login:`)
	verify(t, r.SSH(vm, "edeploy verify; echo exit $?"))
	const want = `^\{"address": "10\.0\.3\.10", "name": "node", "size": 3000000000\}`
	if got := r.SSH(vm, "cat /etc/edeploy-python.json"); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("the script wrote %q, want %s", got, want)
	}
}
