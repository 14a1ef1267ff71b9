import Glibc
import JobCore
import Provisioning
import SystemPackage

/// A program that the service runs, found in the directories of the settings.
enum Program: String {
    case rsync, bwrap, setquota, btrfs

    /// The Debian package.
    private var package: String {
        switch self {
        case .rsync: "rsync"
        case .bwrap: "bubblewrap"
        case .setquota: "quota"
        case .btrfs: "btrfs-progs"
        }
    }

    /// The programs that these settings need.
    static func needed(_ configuration: BackupConfiguration) -> [Program] {
        let sandbox: [Program] = CopySandbox.isConfined(configuration.confinement) ? [.bwrap] : []
        return [.rsync] + sandbox + [configuration.quota.program].compactMap(\.self)
    }

    /// - Throws: code 3 if it is in none of the directories, or if others could change it.
    func find(_ configuration: BackupConfiguration) throws(ProvisioningFailure) -> FilePath {
        guard let path = path(configuration) else {
            throw Self.missing(
                "\(rawValue) is in none of "
                    + configuration.programDirectories.map(\.string).joined(separator: ", "), package: package)
        }
        try FileTrust.demand(path, setting: rawValue, code: .runtimeRequirementNotSatisfied)
        return path
    }

    func path(_ configuration: BackupConfiguration) -> FilePath? {
        configuration.programDirectories.map { $0.appending(rawValue) }.first { Self.isExecutable($0) }
    }

    /// - Throws: code 3 if rsnapshot is missing, or if others could change it.
    static func demandRsnapshot(_ configuration: BackupConfiguration) throws(ProvisioningFailure) {
        let path = configuration.rsnapshot
        guard isExecutable(path) else { throw missing("\(path) is not there", package: "rsnapshot") }
        try FileTrust.demand(path, setting: "RSNAPSHOT", code: .runtimeRequirementNotSatisfied)
    }

    static func isExecutable(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path.string, X_OK) == 0
    }

    private static func missing(_ reason: String, package: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .runtimeRequirementNotSatisfied, .configuration, reason: reason, hint: "apt install \(package)")
    }
}

extension QuotaBackend {
    var program: Program? {
        switch self {
        case .none: nil
        case .setquota: .setquota
        case .btrfs: .btrfs
        }
    }
}
