from linuxkit_rules.scons.tool import exists, generate
