import Glibc
import SystemPackage

/// Everything that Python can be told to import from a directory (sys.path): sources, compiled files and extensions of whatever name, for
/// `importlib.import_module` asks for no identifier, and directories, each of which is a package, even without `__init__.py`. No name of a module begins
/// with a dot, and no name of a package has one.
enum PythonModules {
    /// More files than any site has for its handlers.
    private static let limit = 10_000
    private static let suffixes = [".py", ".pyc", ".so"]

    /// - Throws: ``FileTrustError`` for the first that others could change.
    static func check(in directory: FilePath, trustedOwners: Set<UInt32>) throws(FileTrustError) {
        var pending = [directory]
        var seen: Set<ScriptIdentity.Place> = []
        while let next = pending.popLast() {
            let identity = try FileTrust.check(next, as: .directory, trustedOwners: trustedOwners)
            guard seen.insert(identity.place).inserted else { continue }
            for name in try names(in: next) where !name.hasPrefix(".") {
                guard seen.count + pending.count <= limit else {
                    throw FileTrustError(file: directory, problem: .tooManyFiles(limit: limit), path: next)
                }
                let path = next.appending(name)
                if !name.contains("."), isDirectory(path) {
                    pending.append(path)
                } else if suffixes.contains(where: { name.hasSuffix($0) }) {
                    let file = try FileTrust.check(path, as: .file, trustedOwners: trustedOwners)
                    seen.insert(file.place)
                }
            }
        }
    }

    private static func isDirectory(_ path: FilePath) -> Bool {
        var status = stat()
        return stat(path.string, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func names(in directory: FilePath) throws(FileTrustError) -> [String] {
        do throws(StateFileError) {
            return try StateFile.names(in: directory)
        } catch {
            throw FileTrustError(file: directory, problem: .unreachable(error.errno), path: directory)
        }
    }
}
