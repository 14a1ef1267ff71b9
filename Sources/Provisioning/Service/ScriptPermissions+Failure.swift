package import JobCore
package import SystemPackage

extension ScriptPermissions {
    /// Refuses a script that others could write (row L2). It waits for the file systems it looks at.
    /// - Parameters:
    ///   - setting: the key of the settings that names the script.
    ///   - code: that of the failure.
    /// - Throws: class configuration, or shortage where the machine could not look at it.
    package static func demand(
        _ script: FilePath, setting: String, code: ProvisioningExitCode
    ) throws(ProvisioningFailure) {
        do {
            _ = try check(script)
        } catch {
            throw ProvisioningFailure(
                code, error.failureClass, reason: "\(setting) is refused: \(error)",
                cure: "do what the message says, or name another script in \(setting)")
        }
    }
}
