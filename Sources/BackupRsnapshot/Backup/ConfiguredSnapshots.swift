import Provisioning
import SystemPackage

/// What an account's rsnapshot configuration says about its snapshots, as far as a backup must know it.
///
/// It is for rsnapshot to read the file whole, and for provisioning to write it; here it is only made sure that the file is about the home
/// and the level that the entry names.
struct ConfiguredSnapshots: Hashable, Sendable {
    let root: FilePath?
    /// In the file's order: the first copies, each of the others takes over what the one before drops.
    let levels: [String]
    let lockFile: FilePath?

    static let provisionAgain =
        "provision the account again: write sstProvisioningMode: modify and sstProvisioningState: 0 into its entry"

    init(parsing text: String) {
        var values: [String: [String]] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let fields = line.split(separator: "\t").map(String.init)
            guard fields.count > 1 else { continue }
            // rsnapshot knows `interval` as the older name of `retain`.
            values[fields[0] == "interval" ? "retain" : fields[0], default: []].append(fields[1])
        }
        root = values["snapshot_root"]?.first.map { FilePath($0) }
        levels = values["retain"] ?? []
        lockFile = values["lockfile"]?.first.map { FilePath($0) }
    }

    /// Whether a run of the level copies; else it only passes snapshots on.
    func copies(_ level: SnapshotLevel) -> Bool { levels.first == level.rawValue }

    /// The snapshot that the last copy made.
    var newest: FilePath.Component? { levels.first.map { .named("\($0).0") } }

    /// - Throws: code 7 when rsnapshot would do something else than what the entry asks for.
    func demand(_ level: SnapshotLevel, in home: HomePath, of file: ConfigurationFile) throws(ProvisioningFailure) {
        func failure(_ reason: String) -> ProvisioningFailure {
            ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) \(reason)", cure: Self.provisionAgain)
        }
        guard root == home.snapshots else {
            throw failure(
                "has the snapshot_root \(root.map { EntryReader.quote($0.string) } ?? "of nobody"), and the entry's home is \(home.path)"
            )
        }
        guard levels.contains(level.rawValue) else { throw failure("has no line retain \(level)") }
    }
}
