public import JobCore

/// What becomes of a job and its two scripts, case by case (specification: rows.md D1 to D12): the table that the manual prints and that the tests go through.
public enum HookMatrix {
    /// What the pre script does.
    public enum Pre: String, CaseIterable, Hashable, Sendable {
        case off = "scripts are off"
        case successful = "ends with 0"
        case failed = "ends with another code"
        case killed = "is killed from outside"
        case late = "reaches its time limit"
        case missing = "is not there"
    }

    /// What comes in between.
    public enum Interruption: String, CaseIterable, Hashable, Sendable {
        case none = "-"
        case cancelInPre = "cancel during the pre script"
        case windowEndsInPre = "the window ends during the pre script"
        case cancelInJob = "cancel during the job"
        case cancelInPost = "cancel during the post script"
    }

    /// What the post script does.
    public enum Post: String, CaseIterable, Hashable, Sendable {
        case successful = "ends with 0"
        case failed = "ends with another code"
        case missing = "is not there"
    }

    /// One case.
    public struct Row: Hashable, Sendable {
        /// What the pre script does.
        public var pre: Pre
        /// SKIP_ON_PRE_FAILURE; nil: it makes no difference.
        public var skips: Bool?
        /// What comes in between.
        public var interruption: Interruption
        /// How the work ends if it is run.
        public var job: JobResult
        /// What the post script would do.
        public var post: Post

        /// What follows: the pre script's status.
        public var preStatus: ScriptStatus
        /// Whether the work is run.
        public var jobRuns: Bool
        /// What the job comes to.
        public var result: JobResult
        /// The post script's status.
        public var postStatus: ScriptStatus
        /// The two numbers that the post script is given; nil: it is not run.
        public var postArguments: [Int32]?

        fileprivate init(
            _ pre: Pre, skips: Bool? = nil, during interruption: Interruption = .none, job: JobResult = .success,
            post: Post = .successful, pre preStatus: ScriptStatus, runs: Bool, _ result: JobResult,
            _ postStatus: ScriptStatus, _ postArguments: [Int32]?
        ) {
            self.pre = pre
            self.skips = skips
            self.interruption = interruption
            self.job = job
            self.post = post
            self.preStatus = preStatus
            self.jobRuns = runs
            self.result = result
            self.postStatus = postStatus
            self.postArguments = postArguments
        }

        /// The row as text, one for each of ``HookMatrix/columns``.
        public var cells: [String] {
            [
                pre.rawValue, skips.map { $0 ? "yes" : "no" } ?? "any", interruption.rawValue,
                jobRuns ? job.rawValue : "not run", post.rawValue, preStatus.rawValue, result.rawValue,
                postStatus.rawValue, postArguments.map { $0.map(String.init).joined(separator: " ") } ?? "-",
            ]
        }
    }

    /// The headings of ``Row/cells``.
    public static let columns = [
        "pre script", "SKIP_ON_PRE_FAILURE", "in between", "work", "post script", "pre status", "job", "post status",
        "given to the post script",
    ]

    /// All cases.
    public static let rows: [Row] = [
        Row(.off, pre: .notAvailable, runs: true, .success, .notAvailable, nil),
        Row(.off, job: .failed, pre: .notAvailable, runs: true, .failed, .notAvailable, nil),
        Row(.off, during: .cancelInJob, pre: .notAvailable, runs: true, .aborted, .notAvailable, nil),
        Row(.successful, pre: .successful, runs: true, .success, .successful, [0, 0]),
        Row(.successful, job: .warnings, pre: .successful, runs: true, .warnings, .successful, [0, 3]),
        Row(.successful, job: .failed, pre: .successful, runs: true, .failed, .successful, [0, 1]),
        Row(
            .successful, job: .wrongConfiguration, pre: .successful, runs: true, .wrongConfiguration, .successful,
            [0, 5]),
        Row(.successful, post: .failed, pre: .successful, runs: true, .success, .failed, [0, 0]),
        Row(.successful, post: .missing, pre: .successful, runs: true, .success, .skipped, nil),
        Row(.failed, skips: false, pre: .failed, runs: true, .success, .successful, [1, 0]),
        Row(.failed, skips: false, job: .failed, pre: .failed, runs: true, .failed, .successful, [1, 1]),
        Row(.failed, skips: true, pre: .failed, runs: false, .missed, .successful, [1, 4]),
        Row(.failed, skips: true, post: .missing, pre: .failed, runs: false, .missed, .skipped, nil),
        Row(.killed, skips: false, pre: .failed, runs: true, .success, .successful, [1, 0]),
        Row(.killed, skips: true, pre: .failed, runs: false, .missed, .successful, [1, 4]),
        Row(.late, skips: false, pre: .failed, runs: true, .success, .successful, [1, 0]),
        Row(.late, skips: true, pre: .failed, runs: false, .missed, .successful, [1, 4]),
        Row(.missing, skips: false, pre: .skipped, runs: true, .success, .skipped, nil),
        Row(.missing, skips: false, job: .failed, pre: .skipped, runs: true, .failed, .skipped, nil),
        Row(.missing, skips: true, pre: .skipped, runs: false, .wrongConfiguration, .skipped, nil),
        Row(.successful, during: .cancelInPre, pre: .successful, runs: false, .aborted, .successful, [0, 2]),
        Row(.failed, during: .cancelInPre, pre: .failed, runs: false, .aborted, .successful, [1, 2]),
        Row(.successful, during: .windowEndsInPre, pre: .failed, runs: false, .missed, .successful, [1, 4]),
        Row(.successful, during: .cancelInJob, pre: .successful, runs: true, .aborted, .successful, [0, 2]),
        Row(.missing, skips: false, during: .cancelInJob, pre: .skipped, runs: true, .aborted, .skipped, nil),
        Row(.successful, during: .cancelInPost, pre: .successful, runs: true, .aborted, .successful, [0, 0]),
        Row(
            .successful, during: .cancelInPost, post: .failed, pre: .successful, runs: true, .aborted, .failed, [0, 0]),
    ]
}
