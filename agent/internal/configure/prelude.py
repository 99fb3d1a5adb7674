# Helpers of configuration scripts, for Python 2 and 3. The line above sets var.
import os as _os, subprocess as _subprocess, sys as _sys

_root = _os.environ['EDEPLOY_ROOT']


def run(cmd):
    _sys.stdout.flush()
    _sys.stderr.write('+ %s\n' % cmd)
    _sys.stderr.flush()
    with open(_os.devnull) as null:
        status = _subprocess.call(['/bin/sh', '-c', cmd], stdin=null)
    if status != 0:
        _sys.stderr.write('line %d: %s: exit status %d\n' % (_sys._getframe(1).f_lineno, cmd, status))
        _sys.exit(status if 0 < status < 256 else 1)


def set_role(role, version, disk):
    with open(_root + '/vars', 'a') as f:
        f.write('ROLE=%s\nVERS=%s\nDISK=%s\nPROFILE=%s\n' % (role, version, disk, _os.environ['EDEPLOY_PROFILE']))


def config(name, mode='w', basedir='/post_rsync', fmod=420, uid=0, gid=0):
    path = _root + basedir + name
    if not _os.path.isdir(_os.path.dirname(path)):
        _os.makedirs(_os.path.dirname(path))
    f = open(path, mode)
    if _os.getuid() == 0:
        _os.chown(path, uid, gid)
    _os.chmod(path, fmod)
    return f


def grub_options(text):
    with open(_root + '/grub_options', 'w') as f:
        f.write(text + '\n')


def inject_facts(vars, basedir='/post_rsync', prefix='hw_'):
    with config('/etc/facter/facts.d/edeploy.yaml', basedir=basedir) as f:
        f.write('---\n')
        for key in sorted(vars):
            f.write('%s%s: "%s"\n' % (prefix, key, str(vars[key]).replace('\\', '\\\\').replace('"', '\\"')))


with open(_os.environ['EDEPLOY_SCRIPT']) as _f:
    _code = compile(_f.read(), _os.environ['EDEPLOY_NAME'], 'exec')
exec(_code, globals())
