package import JobCore
import SystemPackage

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
        list += trustedOfTemplate
        list += places.roots.map { TrustedPath("HOME_ROOTS", $0, .directory) }
        list += places.volumes.filter { !places.roots.contains($0) }.map { TrustedPath("VOLUMES", $0, .directory) }
        return list
    }

    /// What the template names for the copies of all accounts: the rsync that they run, where that is no placeholder, and files with patterns.
    private var trustedOfTemplate: [TrustedPath] {
        // What else is wrong with the template is said of it.
        guard TrustedPath("RSNAPSHOT_TEMPLATE", template, .file).fault == nil,
            let text = try? SmallFile.text(at: template)
        else { return [] }
        let configured = ConfiguredSnapshots(parsing: text)
        let rsync = [configured.rsync].compactMap(\.self).filter(\.isAbsolute)
        return rsync.map { TrustedPath(TrustedPath.configuredRsync, $0, .program) }
            + configured.patternFiles.map { TrustedPath(TrustedPath.patternFile, $0, .file) }
    }

    /// Where programs are found that are started by their name alone, also by scripts.
    public var trustedProgramDirectories: [TrustedPath] {
        programDirectories.map { TrustedPath("PATH", $0, .directory) }
    }
}

extension TrustedPath {
    /// The directive of rsnapshot that names the rsync of a copy.
    static let configuredRsync = "cmd_rsync"
    /// Those that name files with patterns for rsync.
    static let patternFile = "include_file or exclude_file"
}
