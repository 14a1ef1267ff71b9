public import JobCore

extension BackupConfiguration {
    /// Everything of `[Backup]` and the pools that root runs or believes.
    public var trusted: [TrustedPath] {
        var list = [
            TrustedPath("RSNAPSHOT", rsnapshot, .program), TrustedPath(CopySandbox.helper, confine, .program),
            TrustedPath("RSNAPSHOT_TEMPLATE", template, .file),
            TrustedPath("RSNAPSHOT_CONFIG_DIRECTORY", configurationDirectory, .directory),
        ]
        if let homeScript { list.append(TrustedPath("HOME_SCRIPT", homeScript, .program)) }
        list += Program.needed(self).compactMap { program in
            program.path(self).map { TrustedPath(program.rawValue, $0, .program) }
        }
        list += places.roots.map { TrustedPath("HOME_ROOTS", $0, .directory) }
        list += places.volumes.filter { !places.roots.contains($0) }.map { TrustedPath("VOLUMES", $0, .directory) }
        return list
    }

    /// Where programs are found that are started by their name alone, also by scripts.
    public var trustedProgramDirectories: [TrustedPath] {
        programDirectories.map { TrustedPath("PATH", $0, .directory) }
    }
}
