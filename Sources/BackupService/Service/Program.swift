import Glibc
import JobCore
import Provisioning
import SystemPackage

/// A program that the service needs, found in the directories of the settings.
enum Program: String {
    case rsync, bwrap, setquota, btrfs

    /// The Debian package that brings it.
    var package: String {
        switch self {
        case .rsync: "rsync"
        case .bwrap: "bubblewrap"
        case .setquota: "quota"
        case .btrfs: "btrfs-progs"
        }
    }

    /// Those that these settings need.
    static func needed(_ configuration: BackupConfiguration) -> [Program] {
        let sandbox: [Program] = CopySandbox.isConfined(configuration.confinement) ? [.bwrap] : []
        return [.rsync] + sandbox + [configuration.quota.program].compactMap(\.self)
    }

    /// - Throws: code 3 when it is in none of the directories, or others could change it.
    func find(_ configuration: BackupConfiguration) throws(ProvisioningFailure) -> FilePath {
        guard let path = path(configuration) else {
            throw Self.missing(
                "\(rawValue) is in none of "
                    + configuration.programDirectories.map(\.string).joined(separator: ", "), package: package)
        }
        try FileTrust.demand(path, setting: rawValue, code: .runtimeRequirementNotSatisfied)
        return path
    }

    /// The first in the directories of the settings.
    func path(_ configuration: BackupConfiguration) -> FilePath? {
        configuration.programDirectories.map { $0.appending(rawValue) }.first { Self.isExecutable($0) }
    }

    /// - Parameter setting: what names it.
    /// - Throws: code 3 when it is not there, or others could change it.
    static func demand(
        _ path: FilePath, setting: String, package: String
    ) throws(ProvisioningFailure) {
        guard isExecutable(path) else { throw missing("\(path) is not there", package: package) }
        try FileTrust.demand(path, setting: setting, code: .runtimeRequirementNotSatisfied)
    }

    static func isExecutable(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path.string, X_OK) == 0
    }

    static func missing(_ reason: String, package: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .runtimeRequirementNotSatisfied, .configuration, reason: reason, hint: "apt install \(package)")
    }
}
