# Helpers of configuration scripts, for Python 2 and 3. The line above sets var.
# Scripts of the original eDeploy use these modules without importing them.
import os, re, sys, time
import subprocess as _subprocess

_root = os.environ['EDEPLOY_ROOT']

try:
    import commands
except ImportError:  # Python 3 has its functions elsewhere
    commands = sys.modules['commands'] = _subprocess


def _function(name, error=RuntimeError):
    """A function that the agent does, as for scripts of all languages."""
    def call(*args, **named):
        import json, socket
        sys.stdout.flush()
        agent = socket.socket(socket.AF_UNIX)
        agent.connect(os.environ['EDEPLOY_MODULES'])
        agent.sendall((json.dumps([name, args, named]) + '\n').encode('ascii'))
        answer = agent.makefile('rb').read()
        agent.close()
        answer = answer if str is bytes else answer.decode('utf-8')
        if answer[:1] != '=':
            raise error(answer[1:] or name + ': the agent does not answer')
        return eval(answer[1:])  # a literal
    return call


def _module(name, functions):
    module = sys.modules[name] = type(sys)(name)
    for function in functions.split():
        setattr(module, function, _function(name + '.' + function))
    return module


ipmi = _module('ipmi', 'setup_user setup_network restart_bmc')
megacli = _module('megacli', 'run_megacli run_and_parse adp_count adp_all_info pd_get_num enc_info pdinfo ld_get_num ld_get_info')
hpacucli = _module('hpacucli', '')
hpacucli.Error = type('Error', (Exception,), {'__module__': 'hpacucli', 'value': property(lambda self: self.args[0])})
hpacucli.Cli = type('Cli', (object,), {'__init__': lambda self, debug=False: None})  # every command is in the log
for _name in ('launch ctrl_all_show ctrl_show ctrl_pd_all_show ctrl_pd_disk_show ctrl_ld_all_show ctrl_ld_show '
              'ctrl_delete ctrl_create_ld').split():
    setattr(hpacucli.Cli, _name, staticmethod(_function('hpacucli.' + _name, hpacucli.Error)))


def run(cmd):
    _run(cmd, sys._getframe(1).f_lineno)


def _run(cmd, line):
    sys.stdout.flush()
    sys.stderr.write('+ %s\n' % cmd)
    sys.stderr.flush()
    with open(os.devnull) as null:
        status = _subprocess.call(['/bin/sh', '-c', cmd], stdin=null)
    if status != 0:
        sys.stderr.write('line %d: %s: exit status %d\n' % (line, cmd, status))
        sys.exit(status if 0 < status < 256 else 1)


def raid1(array, members):
    members = list(members)
    line = sys._getframe(1).f_lineno
    if len(members) < 2 or len(set(members)) < len(members):
        sys.exit('line %d: raid1: members %r: want two or more, each once' % (line, members))
    names = ' '.join(members)
    _run('wipefs -q -a %s && mdadm --create %s --run --quiet --homehost=any --level=1 --raid-devices=%d %s && wipefs -q -a %s'
         % (names, array, len(members), names, array), line)


def set_role(role, version, disk):
    with open(_root + '/vars', 'a') as f:
        f.write('ROLE=%s\nVERS=%s\nDISK=%s\nPROFILE=%s\n' % (role, version, disk, os.environ['EDEPLOY_PROFILE']))


def config(name, mode='w', basedir='/post_rsync', fmod=420, uid=0, gid=0, fmode=None):  # both spellings are in use
    path = _root + basedir + name
    if not os.path.isdir(os.path.dirname(path)):
        os.makedirs(os.path.dirname(path))
    f = open(path, mode)
    if os.getuid() == 0:
        os.chown(path, uid, gid)
    os.chmod(path, fmod if fmode is None else fmode)
    return f


def wipe(policy):
    pass  # the agent has read it before the script began


def grub_options(text):
    with open(_root + '/grub_options', 'w') as f:
        f.write(text + '\n')


def inject_facts(vars, basedir='/post_rsync', prefix='hw_'):
    with config('/etc/facter/facts.d/edeploy.yaml', basedir=basedir) as f:
        f.write('---\n')
        for key in sorted(vars):
            f.write('%s%s: "%s"\n' % (prefix, key, str(vars[key]).replace('\\', '\\\\').replace('"', '\\"')))


with open(os.environ['EDEPLOY_SCRIPT']) as _f:
    _code = compile(_f.read(), os.environ['EDEPLOY_NAME'], 'exec')
exec(_code, globals())
