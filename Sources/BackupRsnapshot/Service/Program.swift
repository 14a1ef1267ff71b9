import Glibc
import Provisioning
import SystemPackage

/// A program that the service needs, found in the folders of the settings.
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

    /// - Throws: code 3 when it is in none of the folders.
    func find(_ configuration: BackupConfiguration) throws(ProvisioningFailure) -> FilePath {
        let candidates = configuration.programDirectories.map { $0.appending(rawValue) }
        if let path = candidates.first(where: { Self.isExecutable($0) }) { return path }
        throw Self.missing(
            "\(rawValue) is in none of "
                + configuration.programDirectories.map(\.string).joined(separator: ", "), package: package)
    }

    static func isExecutable(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path.string, X_OK) == 0
    }

    static func missing(_ reason: String, package: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .runtimeRequirementNotSatisfied, .configuration, reason: reason, cure: "apt install \(package)")
    }
}
