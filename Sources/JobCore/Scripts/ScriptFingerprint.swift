public import SystemPackage

/// What a script's file was when it was run.
public enum ScriptFingerprint {
    /// - Returns: nil when the file cannot be looked at.
    public static func identity(of path: FilePath) async -> ScriptIdentity? { nil }
}
