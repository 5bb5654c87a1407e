{{/* The pods of the Deployment or StatefulSet, and the parts that the pods of helm test share. */}}

{{- define "inventory-refresh.podTemplate" -}}
metadata:
  labels:
    {{- merge (include "inventory-refresh.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels | toYaml | nindent 4 }}
  annotations:
    {{- merge (include "inventory-refresh.checksums" . | fromYaml) .Values.podAnnotations | toYaml | nindent 4 }}
spec:
  {{- include "inventory-refresh.podBasics" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "inventory-refresh.graceSeconds" . }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- merge (deepCopy .) (include "inventory-refresh.spread" $ | fromYaml) | toYaml | nindent 6 }}
    {{- end }}
  {{- end }}
  containers:
    - name: inventory-refresh
      {{- include "inventory-refresh.containerBasics" . | nindent 6 }}
      args: [run]
      env:
        {{- include "inventory-refresh.env" . | nindent 8 }}
        {{- if .Values.staticMembership.enabled }}
        - name: INVENTORY_REFRESH_KAFKA__PROPERTIES__GROUP_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
      {{- with include "inventory-refresh.envFrom" . }}
      {{- . | nindent 6 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.config.http.port }}
          protocol: TCP
      startupProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/healthz" "times" .Values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/healthz" "times" .Values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/readyz" "times" .Values.probes.readiness) | nindent 8 }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The parts of a pod that the service and its tests share. */}}
{{- define "inventory-refresh.podBasics" -}}
serviceAccountName: {{ include "inventory-refresh.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
# The variables that Kubernetes sets for Services are not needed, and some look like settings.
enableServiceLinks: false
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $name := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with get $.Values $name }}
{{ $name }}: {{ . }}
{{- end }}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" "initContainers" }}
{{- with get $.Values $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
volumes:
  {{- include "inventory-refresh.volumes" . | nindent 2 }}
{{- with .Values.extraPodSpec }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.containerBasics" -}}
image: {{ include "inventory-refresh.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: {{ include "inventory-refresh.configFolder" . }}
    readOnly: true
  {{- if include "inventory-refresh.hasSecrets" . }}
  - name: secrets
    mountPath: {{ include "inventory-refresh.secretsFolder" . }}
    readOnly: true
  {{- end }}
  {{- if include "inventory-refresh.hasCaBundle" . }}
  - name: ca
    mountPath: {{ include "inventory-refresh.caFolder" . }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Variables from ConfigMaps and Secrets. */}}
{{- define "inventory-refresh.envFrom" -}}
{{- with .Values.extraEnvFrom -}}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.env" -}}
- name: INVENTORY_REFRESH_CONFIG
  value: {{ include "inventory-refresh.configFolder" . }}/config.yaml
- name: INVENTORY_REFRESH_SECRETS_DIR
  value: {{ include "inventory-refresh.secretsDirectories" . | quote }}
# The image sets this variable, which would override config.log.format. Empty counts as not given.
- name: INVENTORY_REFRESH_LOG__FORMAT
  value: ""
- name: POLARS_MAX_THREADS
  value: {{ .Values.polarsThreads | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Directories, not single files (subPath): otherwise a changed Secret would not reach a running pod. */}}
{{- define "inventory-refresh.volumes" -}}
- name: config
  configMap:
    name: {{ include "inventory-refresh.fullname" . }}
{{- if include "inventory-refresh.hasSecrets" . }}
- name: secrets
  projected:
    # Readable for the group, which fsGroup sets to that of the service.
    defaultMode: 0440
    sources:
      {{- range .Values.secrets.existing }}
      - secret:
          {{- toYaml . | nindent 10 }}
      {{- end }}
      {{- if .Values.secrets.externalSecret.enabled }}
      - secret:
          name: {{ include "inventory-refresh.fullname" . }}
      {{- end }}
{{- end }}
{{- if .Values.caBundle.configMap }}
- name: ca
  configMap:
    name: {{ .Values.caBundle.configMap }}
{{- else if .Values.caBundle.secret }}
- name: ca
  secret:
    secretName: {{ .Values.caBundle.secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{ toYaml .times }}
{{- end }}

{{/* Spread the pods of the same revision, so that pods which are being replaced do not count. */}}
{{- define "inventory-refresh.spread" -}}
labelSelector:
  matchLabels:
    {{- include "inventory-refresh.selectorLabels" . | nindent 4 }}
matchLabelKeys:
  - {{ ternary "controller-revision-hash" "pod-template-hash" .Values.staticMembership.enabled }}
{{- end }}
